"""The parts of an answer in a chat: what was thought, what is said, which tools are called.

A text arrives in pieces, and each piece adds to some parts. What all pieces add to a part is the part, as the
output's `message` has it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec


class Content(msgspec.Struct, frozen=True, tag="content"):
    """More of what the assistant says."""

    text: str


class Reasoning(msgspec.Struct, frozen=True, tag="reasoning"):
    """More of a chat's reasoning."""

    text: str


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call", omit_defaults=True):
    """More of a call's arguments, which are JSON. `index` counts the calls of a text from 0; the first piece
    of a call, and no other, has its `id` and the `name` of the function.
    """

    index: int
    arguments: str
    id: str = ""
    name: str = ""


Part = Content | Reasoning | ToolCall


def merged(parts: Iterable[Part]) -> list[Part]:
    """Parts in their order, with neighbours that add to one part joined."""
    found: list[Part] = []
    for part in parts:
        found.append(part)
        if len(found) > 1 and (both := _sum(found[-2], part)) is not None:
            found[-2:] = [both]
    return found


def _sum(one: Part, other: Part) -> Part | None:
    match one, other:
        case Content(), Content():
            return Content(one.text + other.text)
        case Reasoning(), Reasoning():
            return Reasoning(one.text + other.text)
        case ToolCall(), ToolCall() if one.index == other.index:
            return ToolCall(one.index, one.arguments + other.arguments, one.id, one.name)
    return None


class Message:
    """Adds parts up to the message that they are."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}

    def add(self, parts: Iterable[Part]) -> None:
        for part in parts:
            match part:
                case Content():
                    self._content.append(part.text)
                case Reasoning():
                    self._reasoning.append(part.text)
                case ToolCall():
                    self._add_call(part)

    def to_json(self) -> dict[str, Any]:
        """The message of a chat completion. `content` is null beside calls where nothing is said."""
        content = "".join(self._content)
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if self._calls:
            message["content"] = content or None
            message["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": "".join(call["arguments"])},
                }
                for call in self._calls.values()
            ]
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        return message

    def _add_call(self, part: ToolCall) -> None:
        call = self._calls.setdefault(
            part.index, {"id": part.id, "name": part.name, "arguments": []}
        )
        call["arguments"].append(part.arguments)


def parts_of(message: Mapping[str, Any]) -> list[Part]:
    """All of a message, each part whole."""
    parts: list[Part] = []
    if message.get("reasoning_content"):
        parts.append(Reasoning(message["reasoning_content"]))
    if message.get("content"):
        parts.append(Content(message["content"]))
    for index, call in enumerate(message.get("tool_calls") or ()):
        function = call["function"]
        parts.append(ToolCall(index, function["arguments"], call["id"], function["name"]))
    return parts
