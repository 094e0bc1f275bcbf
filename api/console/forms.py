"""What the forms of the playground stand for: bodies of `POST /v1/jobs`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.domain.errors import InvalidRequest
from shared.domain.models.catalog import ModelSpec
from shared.domain.requests.params import ENGINES

NUMBERS = {"max_new_tokens": int, "temperature": float, "top_p": float, "seed": int}
"""Parameters of texts that the form has a field for."""
TURN, RESULT, MEMBER = "turn:", "result:", "member:"
"""Before the number of an earlier message, the id of a call of a tool, the name of a member of an input."""
MOST_TURNS = 48
"""Earlier messages of a chat that a form may hold."""
SIMPLE = ("string", "number", "integer", "boolean")

Form = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an input as a field. `kind` is a simple type of JSON Schema, `choice` or `json`."""

    name: str
    kind: str
    required: bool
    about: str
    choices: tuple[str, ...] = ()
    default: str = ""


def kind_of(spec: ModelSpec) -> str:
    """Which form a model has: `text`, `texts` (one a line), `ranking`, `members` of its schema, `json`."""
    engine = ENGINES.get(spec.engine)
    if engine is not None and engine.streams_text:
        return "text"
    otherwise = "members" if members_of(spec) else "json"
    return {"embedding": "texts", "ranking": "ranking"}.get(spec.engine, otherwise)


def members_of(spec: ModelSpec) -> list[Member]:
    """The fields that the schema of a model's input asks for; none where that is no schema of an object."""
    schema = spec.input_schema or {}
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return []
    required = schema.get("required") or ()
    return [_member(name, one, name in required) for name, one in properties.items()]


def body_of(spec: ModelSpec, form: Form) -> dict[str, Any]:
    """The body that a form stands for. Raises `InvalidRequest`."""
    body: dict[str, Any] = {"model": spec.name}
    kind, prompt = kind_of(spec), form.get("prompt", "")
    match kind:
        case "text" if form.get("as") == "chat":
            body["input"] = _chat(form)
        case "text":
            body["prompt"] = prompt
        case "texts":
            body["input"] = _lines(prompt)
        case "ranking":
            body["input"] = {"query": form.get("query", ""), "documents": _lines(prompt)}
        case "members":
            body["input"] = _members(members_of(spec), form)
        case _:
            body["input"] = _json("The input", prompt)
    if params := _params(form):
        body["params"] = params
    return body


def messages_of(form: Form) -> list[dict[str, Any]]:
    """A chat: what was said before, what tools have brought, what is said now. Raises `InvalidRequest`."""
    earlier = sorted(
        (int(name.removeprefix(TURN)), told)
        for name, told in form.items()
        if name.startswith(TURN) and name.removeprefix(TURN).isdecimal()
    )
    if len(earlier) > MOST_TURNS:
        raise InvalidRequest(f"A chat here has at most {MOST_TURNS} messages. Begin a new one.")
    messages = [_json("An earlier message", told) for _, told in earlier]
    if not all(isinstance(one, dict) for one in messages):
        raise InvalidRequest("An earlier message is not one. Begin a new chat.")
    for name, told in form.items():
        if name.startswith(RESULT):
            call = name.removeprefix(RESULT)
            messages.append({"role": "tool", "tool_call_id": call, "content": told})
    if said := form.get("prompt", ""):
        messages.append({"role": "user", "content": said})
    return messages


def _chat(form: Form) -> dict[str, Any]:
    system = form.get("system", "").strip()
    first = [{"role": "system", "content": system}] if system else []
    chat: dict[str, Any] = {"messages": [*first, *messages_of(form)]}
    if tools := form.get("tools", "").strip():
        chat["tools"] = _json("The list of tools", tools)
    return chat


def _member(name: str, schema: Any, required: bool) -> Member:
    told: Mapping[str, Any] = schema if isinstance(schema, Mapping) else {}
    default, choices = told.get("default"), told.get("enum")
    kind = told.get("type")
    shown = "" if default is None else default if isinstance(default, str) else _text(default)
    about = str(told.get("description") or "")
    if isinstance(choices, list) and choices:
        return Member(name, "choice", required, about, tuple(map(_text, choices)), _text(default))
    return Member(name, kind if kind in SIMPLE else "json", required, about, (), shown)


def _members(members: list[Member], form: Form) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for member in members:
        given = form.get(MEMBER + member.name, "")
        if given or (member.required and member.kind == "string"):
            found[member.name] = _value(member, given)
    return found


def _value(member: Member, given: str) -> Any:
    if member.kind == "string":
        return given
    value = _json(f"'{member.name}'", given)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if member.kind == "number" and not number:
        raise InvalidRequest(f"'{member.name}' is not a number: {given[:40]!r}.")
    if member.kind == "integer" and not (number and value == int(value)):
        raise InvalidRequest(f"'{member.name}' is not a whole number: {given[:40]!r}.")
    return value


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()]


def _params(form: Form) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind in NUMBERS.items():
        given = form.get(name, "").strip()
        if given:
            try:
                found[name] = kind(given)
            except ValueError:
                raise InvalidRequest(f"'{name}' is not a number: {given[:40]!r}.") from None
    return found


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _json(what: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"{what} is not JSON: {error}.") from None
