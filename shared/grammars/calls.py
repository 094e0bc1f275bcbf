"""Calls of tools that a model must make: the grammar that its answer follows then."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from shared.grammars.json_schemas import enforceable_schema, with_guidance
from shared.grammars.refusal import GrammarRefused

Form = Literal["hermes", "llama", "mistral"]
"""How models write calls: in tags (Hermes, Qwen), as bare JSON (Llama), behind a mark (Mistral)."""
ARGUMENTS = {"hermes": "arguments", "llama": "parameters", "mistral": "arguments"}
OPEN, CLOSE, MARK = "<tool_call>", "</tool_call>", "[TOOL_CALLS]"
_LAYOUT = {
    "hermes": ('"<tool_call>\\n" one "\\n</tool_call>"', 'call ("\\n" call)*'),
    "llama": ("one", 'call ("; " call)*'),
    "mistral": ("one", '"[TOOL_CALLS] [" call (", " call)* "]"'),
}


def forced(content: Any) -> list[Mapping[str, Any]]:
    """The functions of which a chat says that one must be called; none where the model is free.

    Raises `GrammarRefused` for a `tool_choice` that names no tool of the chat.
    """
    choice = content.get("tool_choice") if isinstance(content, Mapping) else None
    if choice in (None, "auto", "none"):
        return []
    functions = [tool["function"] for tool in content.get("tools") or ()]
    if isinstance(choice, Mapping):
        name = choice["function"]["name"]
        functions = [function for function in functions if function["name"] == name]
    if not functions:
        raise GrammarRefused((), "tool_choice", "names no tool of this chat", base=("input",))
    return functions


def calls_grammar(content: Any, form: Form) -> dict[str, Any] | None:
    """The grammar of an answer that must call tools, as `source_of` knows it; None for any other answer."""
    if not (functions := forced(content)):
        return None
    named = isinstance(content["tool_choice"], Mapping)
    many = not named and content.get("parallel_tool_calls") is not False
    return {"calls": {"form": form, "functions": functions, "many": many}}


def calls_lark(calls: Mapping[str, Any]) -> str:
    """Such a grammar in Lark's notation. Raises `GrammarRefused`."""
    form = calls["form"]
    call, several = _LAYOUT[form]
    if not calls["many"]:
        several = '"[TOOL_CALLS] [" call "]"' if form == "mistral" else "call"
    ones = [f"%json {_call(function, form, n)}" for n, function in enumerate(calls["functions"])]
    return f"start: {several}\ncall: {call}\none: {' | '.join(ones)}\n"


def _call(function: Mapping[str, Any], form: Form, number: int) -> str:
    place = ("tools", number, "function", "parameters")
    given = function.get("parameters") or {"type": "object"}
    parameters = enforceable_schema(given, place, base=("input",))
    name = ARGUMENTS[form]
    schema = {
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            name: {"type": "object", "allOf": [_moved(parameters, f"#/properties/{name}/allOf/0")]},
        },
        "required": ["name", name],
        "additionalProperties": False,
    }
    if "$ref" not in msgspec.json.encode(parameters).decode():
        schema["properties"][name] = {"type": "object", **parameters}  # type: ignore[index]
    return msgspec.json.encode(with_guidance(schema)).decode()


def _moved(part: Any, to: str) -> Any:
    """A schema that stands elsewhere now: its references lead there."""
    if isinstance(part, list):
        return [_moved(one, to) for one in part]
    if not isinstance(part, dict):
        return part
    return {
        name: to + value[1:]
        if name == "$ref" and isinstance(value, str)
        else value
        if name in ("const", "enum")
        else _moved(value, to)
        for name, value in part.items()
    }
