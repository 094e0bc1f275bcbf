"""An event of a job's stream, and the text that a stream of events adds up to."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client.errors import ClientError
from client.sse import ServerEvent


@dataclass(frozen=True, slots=True)
class Event:
    """`type` is status, token, output, reset or done; `id` is what to resume from."""

    type: str
    data: Mapping[str, Any]
    id: str

    @property
    def text(self) -> str:
        """The piece of text that a `token` event brings, else ''. `choice` says of which text it is one."""
        return str(self.data.get("text", "")) if self.type == "token" else ""

    @property
    def choice(self) -> int:
        """Which of the job's texts the event is about; 0 where the job has one."""
        return int(self.data.get("choice", 0)) if self.type == "token" else 0

    @property
    def parts(self) -> Sequence[Mapping[str, Any]]:
        """What a `token` event of a chat adds to the message's parts: content, reasoning, calls of tools."""
        return self.data.get("parts") or () if self.type == "token" else ()

    @classmethod
    def parse(cls, event: ServerEvent) -> "Event":
        """Raises `ClientError` when the data is not a JSON object."""
        try:
            data = json.loads(event.data)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            raise ClientError(f"event {event.id!r} is not JSON: {event.data[:80]!r}")
        return cls(event.event, data, event.id)


def text_of(events: Iterable[Event], choice: int = 0) -> str:
    """The token texts of a choice after the last `reset`, joined: equals its text in the output of a job that
    succeeded, `output.text` for the first.
    """
    pieces: list[str] = []
    for event in events:
        if event.type == "reset":
            pieces.clear()
        elif event.type == "token" and event.choice == choice:
            pieces.append(event.text)
    return "".join(pieces)


def message_of(events: Iterable[Event], choice: int = 0) -> dict[str, Any]:
    """The parts of a choice after the last `reset`, added up: equals its `message` in the output of a chat
    that succeeded, `output.message` for the first.
    """
    texts: dict[str, list[str]] = {"content": [], "reasoning": []}
    calls: dict[int, dict[str, Any]] = {}
    for event in events:
        if event.type == "reset":
            texts, calls = {"content": [], "reasoning": []}, {}
        if event.choice != choice:
            continue
        for part in event.parts:
            if part["type"] in texts:
                texts[part["type"]].append(part["text"])
            elif part["type"] == "tool_call":
                call = calls.setdefault(part["index"], {**part, "pieces": []})
                call["pieces"].append(part["arguments"])
    content = "".join(texts["content"])
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        message["content"] = content or None
        message["tool_calls"] = [_call(call) for call in calls.values()]
    if texts["reasoning"]:
        message["reasoning_content"] = "".join(texts["reasoning"])
    return message


def _call(begun: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": begun["name"], "arguments": "".join(begun["pieces"])}
    return {"id": begun["id"], "type": "function", "function": function}
