"""Shows a worker which call its engine host is in, since when and for whom, in a page of shared memory.

The host writes it between two instructions of its loop, so it is right while the interpreter is held by
code that lets no other thread run, and still right when the host is dead.
"""

import mmap
import os
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SIZE = mmap.PAGESIZE
_RECORD = struct.Struct("=qdH128s")
_LONGEST = 128
_READS = 8


@dataclass(frozen=True, slots=True)
class Call:
    """`pid` is the host's, 0 before it said so. `since` by `time.monotonic`, which all processes of a
    machine share; 0 between two calls. `ticket`: the job that the call is for, "" where it is for several.
    """

    pid: int
    since: float
    ticket: str


class Progress:
    """The page. One process writes, the other reads."""

    def __init__(self, descriptor: int) -> None:
        """Map the page that a descriptor stands for. The descriptor is not needed afterwards."""
        self._page = mmap.mmap(descriptor, SIZE)
        self._pid = 0

    def sign(self) -> None:
        """Say whose page this is, in the host."""
        self._pid = os.getpid()
        self._write(0.0, b"")

    @contextmanager
    def call(self, ticket: str = "") -> Iterator[None]:
        """While a call of the engine runs."""
        self._write(time.monotonic(), ticket.encode()[:_LONGEST])
        try:
            yield
        finally:
            self._write(0.0, b"")

    def read(self) -> Call:
        """What the host is at. Two reads alike are one that no write came into."""
        found = self._page[: _RECORD.size]
        for _ in range(_READS):
            before, found = found, self._page[: _RECORD.size]
            if before == found:
                break
        pid, since, length, ticket = _RECORD.unpack(found)
        return Call(pid, since, ticket[:length].decode("utf-8", "replace"))

    def close(self) -> None:
        self._page.close()

    def _write(self, since: float, ticket: bytes) -> None:
        _RECORD.pack_into(self._page, 0, self._pid, since, len(ticket), ticket)


@contextmanager
def new_page() -> Iterator[int]:
    """The descriptor of an empty page, to map and to hand on."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("progress")
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, SIZE)
        yield descriptor
    finally:
        os.close(descriptor)
