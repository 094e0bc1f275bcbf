"""Reads an answer in a chat: what was thought, what is said, and which tools are called."""

import json
import re
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from hashlib import blake2b
from typing import Any

from shared.domain.errors import InputRefused
from shared.grammars.calls import ARGUMENTS, CLOSE, MARK, OPEN, Form, calls_grammar
from shared.grammars.refusal import GrammarRefused
from workers.engines.base import Work
from workers.engines.loading.vocabulary import Vocabulary

THINK, THOUGHT = "<think>", "</think>"
PYTHON = "<|python_tag|>"
_TAGGED = re.compile(rf"{OPEN}\s*(.*?)\s*{CLOSE}", re.DOTALL)
_JSON = json.JSONDecoder()

LAST = 8
"""Tokens of a prompt in which the tag of thoughts may have been opened."""

Call = tuple[str, dict[str, Any]]


class Replies:
    """How one model answers chats. `template` is its chat template."""

    def __init__(self, template: Any, vocabulary: Vocabulary) -> None:
        self._form = form_of(template)
        self._vocabulary = vocabulary

    def grammar(self, work: Work) -> Mapping[str, Any] | None:
        """What the job's text must be made of. Raises `InputRefused`."""
        grammar: Mapping[str, Any] | None = work.params.get("grammar")
        if grammar or not isinstance(work.content, Mapping):
            return grammar
        try:
            return calls_grammar(work.content, self._form)
        except GrammarRefused as refused:
            raise InputRefused(refused.detail, code=refused.code) from None

    def reader(self, work: Work, prompt: Items[int]) -> Callable[[str, int], dict[str, Any]] | None:
        """Reads the texts of a job as messages; None for a job that is no chat, or goes on with a message."""
        content = work.content
        if not isinstance(content, Mapping) or content.get("continue_final_message"):
            return None
        thinking = self._vocabulary.spell(prompt[-LAST:]).rstrip().endswith(THINK)

        def read(text: str, choice: int) -> dict[str, Any]:
            return message(text, content, self._form, job=work.id, choice=choice, thinking=thinking)

        return read


def form_of(template: Any) -> Form:
    """How a model writes calls, by what its chat template shows; as Hermes and Qwen where it shows none."""
    source = str(template or "")
    if OPEN in source:
        return "hermes"
    if "[TOOL_CALLS]" in source:
        return "mistral"
    return "llama" if "python_tag" in source or '"parameters"' in source else "hermes"


def message(
    text: str, content: Mapping[str, Any], form: Form, *, job: str, choice: int, thinking: bool
) -> dict[str, Any]:
    """The assistant's message that a text is. `thinking`: the prompt has opened the tag of thoughts.

    A call that is cut off or broken, or of a tool that was not offered, is content like any other text.
    """
    thought, said = _thoughts(text, thinking=thinking)
    names = {tool["function"]["name"] for tool in content.get("tools") or ()}
    calls: list[Call] = []
    if names and content.get("tool_choice") != "none":
        said, calls = _READERS[form](said, names)
    reply: dict[str, Any] = {"role": "assistant", "content": said}
    if calls:
        reply["content"] = said.strip() or None
        reply["tool_calls"] = [
            {
                "id": _id(job, choice, number),
                "type": "function",
                "function": {
                    "name": name,
                    "arguments": json.dumps(arguments, ensure_ascii=False, separators=(",", ":")),
                },
            }
            for number, (name, arguments) in enumerate(calls)
        ]
    if thought is not None:
        reply["reasoning_content"] = thought
    return reply


def _thoughts(text: str, *, thinking: bool) -> tuple[str | None, str]:
    start = text.lstrip()
    if not thinking:
        if not start.startswith(THINK):
            return None, text
        text = start.removeprefix(THINK)
    thought, _, said = text.partition(THOUGHT)
    return thought.strip("\n"), said.lstrip("\n")


def _tagged(text: str, names: set[str]) -> tuple[str, list[Call]]:
    calls: list[Call] = []

    def read(found: re.Match[str]) -> str:
        call = _call(_decoded(found[1]), names, "hermes")
        if call is None:
            return found[0]
        calls.append(call)
        return ""

    return _TAGGED.sub(read, text), calls


def _bare(text: str, names: set[str]) -> tuple[str, list[Call]]:
    calls: list[Call] = []
    rest = text.strip().removeprefix(PYTHON).lstrip()
    while rest:
        value, rest = _first(rest)
        call = _call(value, names, "llama")
        if call is None:
            return text, []
        calls.append(call)
        rest = rest.lstrip("; \n")
    return ("", calls) if calls else (text, [])


def _marked(text: str, names: set[str]) -> tuple[str, list[Call]]:
    said, mark, rest = text.partition(MARK)
    if not mark:
        return text, []
    values, _ = _first(rest.strip())
    calls = [_call(value, names, "mistral") for value in values] if isinstance(values, list) else []
    found = [call for call in calls if call is not None]
    return (said, found) if found and len(found) == len(calls) else (text, [])


_READERS = {"hermes": _tagged, "llama": _bare, "mistral": _marked}


def _call(value: Any, names: set[str], form: Form) -> Call | None:
    if not isinstance(value, dict):
        return None
    name, arguments = value.get("name"), value.get(ARGUMENTS[form], {})
    return (name, arguments) if name in names and isinstance(arguments, dict) else None


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _first(text: str) -> tuple[Any, str]:
    """The JSON value that a text begins with, None where there is none, and what comes after it."""
    try:
        value, end = _JSON.raw_decode(text)
    except ValueError:
        return None, ""
    return value, text[end:]


def _id(job: str, choice: int, number: int) -> str:
    """The same for the same call, whichever attempt says it."""
    return "call_" + blake2b(f"{job}:{choice}:{number}".encode(), digest_size=12).hexdigest()
