"""What clients saw, in the order in which they saw it: append-only, one JSON document a line on disk."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec


class Accepted(msgspec.Struct, tag=True, frozen=True):
    """A submit was answered with a job. `expected` is the text that its output must hold.

    `streams`: the engine says its whole output as token events too.
    """

    at: float
    job: str
    key: str
    expected: str | None = None
    streams: bool = True


class Refused(msgspec.Struct, tag=True, frozen=True):
    """An answer that is no success. `what` is the call, `code` the problem's."""

    at: float
    what: str
    status: int
    code: str = ""


class Seen(msgspec.Struct, tag=True, frozen=True):
    """One event as one reader got it on one of its connections. A `done` has its status as text, a piece of
    a chat's answer the `parts` that it adds to.
    """

    at: float
    job: str
    reader: str
    connection: int
    id: str
    kind: str
    text: str = ""
    parts: list[dict[str, Any]] = []


class Final(msgspec.Struct, tag=True, frozen=True):
    """A job's document when it was last asked for. Times are Unix seconds. `message`: of a chat."""

    at: float
    job: str
    status: str
    text: str | None = None
    attempt: int = 0
    code: str = ""
    created: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    message: dict[str, Any] | None = None


class Logged(msgspec.Struct, tag=True, frozen=True):
    """A job's log as Redis holds it: (id, kind, text) an event."""

    job: str
    events: list[tuple[str, str, str]]


class Fault(msgspec.Struct, tag=True, frozen=True):
    """A fault that was injected, or the moment at which a lasting one was healed.

    `victims` are the jobs that it hit. `recovered` is in seconds, where the scenario measured it.
    """

    at: float
    kind: str
    target: str = ""
    victims: list[str] = []
    recovered: float | None = None


Entry = Accepted | Refused | Seen | Final | Logged | Fault
E = TypeVar("E", Accepted, Refused, Seen, Final, Logged, Fault)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


class History:
    """Appending is safe between threads; nothing is ever changed or taken away."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)

    def fault(self, kind: str, target: str = "", victims: list[str] | None = None) -> None:
        """Record a fault that is being injected now."""
        self.add(Fault(time.time(), kind, target, victims or []))

    def of(self, kind: type[E]) -> list[E]:
        """All entries of one kind, in order."""
        return [entry for entry in self._entries if isinstance(entry, kind)]

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def dump(self, path: Path) -> None:
        path.write_bytes(b"".join(_encode(entry) + b"\n" for entry in self._entries))

    @classmethod
    def load(cls, path: Path) -> "History":
        """Read what `dump` wrote."""
        history = cls()
        for line in path.read_bytes().splitlines():
            history.add(_decode(line))
        return history
