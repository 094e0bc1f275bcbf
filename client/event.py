"""An event of a job's stream, and the text that a stream of events adds up to."""

import json
from collections.abc import Iterable, Mapping
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
        """The piece of text that a `token` event brings, else ''."""
        return str(self.data.get("text", "")) if self.type == "token" else ""

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


def text_of(events: Iterable[Event]) -> str:
    """The token texts after the last `reset`, joined: equals `output.text` of a job that succeeded."""
    pieces: list[str] = []
    for event in events:
        if event.type == "reset":
            pieces.clear()
        elif event.type == "token":
            pieces.append(event.text)
    return "".join(pieces)
