"""Events of jobs: where one stands in its job's log, and what readers get of it."""

import re
from typing import NamedTuple

import msgspec

from shared.domain.errors import InvalidRequest

_ID = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


class EventId(NamedTuple):
    """Where an event stands in its job's log: `<attempt>-<seq>`."""

    attempt: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> "EventId":
        """Raises `InvalidRequest` for anything but `<attempt>-<seq>`."""
        match = _ID.fullmatch(text)
        if match is None:
            raise InvalidRequest(
                f"{text[:40]!r} is not an event id; give the id of the last event that you got, "
                "such as 1-17.",
                code="invalid_cursor",
            )
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def known(cls, raw: bytes) -> "EventId":
        """One that our own scripts wrote."""
        attempt, _, seq = raw.partition(b"-")
        return cls(int(attempt), int(seq))

    def __str__(self) -> str:
        return f"{self.attempt}-{self.seq}"


START = EventId(0, 0)


class Prefix(msgspec.Struct, frozen=True, array_like=True):
    """How far a text has been streamed: exactly the text of its token ids.

    `finish_reason` where readers were told that it has ended.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    finish_reason: str = ""


class Streamed(NamedTuple):
    """What earlier attempts of a job have streamed since the last reset.

    `text`, `token_ids` and `finish_reason` are those of its first text, `further` those of the others in
    order; `other`: an engine's own output was sent.
    """

    text: str
    token_ids: tuple[int, ...]
    other: bool
    further: tuple[Prefix, ...] = ()
    finish_reason: str = ""


_LINES = ((b"\xc2\x85", rb"\u0085"), (b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"))
"""What ends a line in Unicode and not in JSON, which escapes what does in ASCII: as it is, and escaped."""


def one_line(data: bytes) -> bytes:
    """JSON that is one line also to clients that split lines as Python's `str.splitlines` does."""
    if data.isascii():
        return data
    for end, escaped in _LINES:
        if end in data:
            data = data.replace(end, escaped)
    return data


class Event:
    """One event. `kind` is status, token, output, reset or done; `data` is JSON without newlines."""

    __slots__ = ("_frame", "data", "id", "kind")

    def __init__(self, identity: EventId, kind: str, data: bytes) -> None:
        self.id = identity
        self.kind = kind
        self.data = data
        self._frame = b""

    @property
    def frame(self) -> bytes:
        """The event as one SSE frame, serialised once for all its readers, if any wants it."""
        if not self._frame:
            kind, data = self.kind.encode(), one_line(self.data)
            self._frame = b"id: %d-%d\nevent: %b\ndata: %b\n\n" % (*self.id, kind, data)
        return self._frame

    @property
    def terminal(self) -> bool:
        return self.kind == "done"


CREATED = Event(EventId(0, 1), "status", b'{"status":"queued","attempt":0}')
"""The first event of every job. It is never stored: who reads a log from its start is told it first."""
STARTED = Event(EventId(1, 0), "status", b'{"status":"running","attempt":1}')
"""The event with which the first attempt of every job begins, be there a log or not."""
