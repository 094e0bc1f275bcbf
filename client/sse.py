"""Parses server-sent events as their bytes arrive, by the rules of the WHATWG standard.

Source: HTML Living Standard, section 9.2.6 "Interpreting an event stream".
"""

import re
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"
MAX_RETRY_DIGITS = 9


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One dispatched event. `id` is the last id seen on the stream when it was dispatched."""

    event: str
    data: str
    id: str


class Parser:
    """Feed it the body of one response in pieces of any size; the pieces never change the events.

    An event that the stream's end cuts off is dropped, and its id with it, so `last_event_id` names
    the last event that was handed out: reconnecting with it loses nothing.
    """

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        self._pending = bytearray()
        self._after_cr = False
        self._first_line = True
        self._event = ""
        self._data: list[str] = []
        self._id = last_event_id

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Take the next bytes; return the events that they complete, in order."""
        if not chunk:
            return []
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        # A CR ends its line at once; the LF of a CRLF may come with the next piece.
        self._after_cr = chunk.endswith(b"\r") if chunk else False
        *ends, rest = _LINE_END.split(chunk)
        events = []
        for end in ends:
            self._pending += end
            event = self._line(bytes(self._pending))
            self._pending.clear()
            if event is not None:
                events.append(event)
        self._pending += rest
        return events

    def _line(self, line: bytes) -> ServerEvent | None:
        # Whole lines are decoded: a CR or LF byte never stands inside a UTF-8 character.
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        text = line.decode("utf-8", "replace")
        field, _, value = text.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit() and len(value) <= MAX_RETRY_DIGITS:
                self.retry_ms = int(value)
        return None

    def _dispatch(self) -> ServerEvent | None:
        event, data = self._event or "message", self._data
        self._event, self._data = "", []
        self.last_event_id = self._id
        return ServerEvent(event, "\n".join(data), self._id) if data else None
