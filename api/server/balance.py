"""New connections go to the process that holds the fewest.

Processes that listen on one socket are all woken by a connection, and the first to ask gets it. Of a burst
that is always the same one: all of 64 clients who connected together, say, and keep their connections.
Here a process that holds more than others leaves a connection to them for a moment. Nothing is handed from
one process to another, so no connection is lost with one, and none waits longer for one that hangs.
"""

import mmap
import time
from typing import Any

from gevent.server import StreamServer

MOST = 128
"""Processes of one server that count each other's connections; one more takes whatever comes."""
WAIT_SECONDS = 0.01
"""How long a connection is left to others."""
FREELY_SECONDS = 0.05
"""For how long none is left to them, when they did not come for the last one."""
_ABSENT = 2**31 - 1


class Place:
    """Of one process: how many connections it holds, where all others see it."""

    def __init__(self, counts: "memoryview[int]", slot: int) -> None:
        self._counts = counts
        self.slot = slot
        self._open = 0
        self._listens = False

    def listen(self) -> None:
        """Connections may be left to this process from now on."""
        self._listens = True
        self._show()

    def leave(self) -> None:
        """No more; connections that it still holds concern nobody."""
        self._listens = False
        self._counts[self.slot] = _ABSENT

    def count(self, change: int) -> None:
        """So many more connections are open here."""
        self._open += change
        if self._listens:
            self._show()

    def ahead(self) -> bool:
        """Whether this process holds clearly more than the one that holds the fewest: 2, and an eighth."""
        fewest = min(self._counts)
        return self._open > fewest + fewest // 8 + 2

    def _show(self) -> None:
        self._counts[self.slot] = self._open


class Board:
    """The places of all processes, in memory that they share: made, and given, before they are forked."""

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, 4 * MOST)).cast("i")
        self._free = set(range(MOST))
        for slot in range(MOST):
            self._counts[slot] = _ABSENT

    def place(self) -> Place:
        """A place of its own for a process that is to be forked."""
        if not self._free:
            return Place(memoryview(bytearray(4)).cast("i"), 0)
        slot = min(self._free)
        self._free.remove(slot)
        return Place(self._counts, slot)

    def ended(self, place: Place) -> None:
        """The process has ended, however it did."""
        place.leave()
        if place._counts is self._counts:
            self._free.add(place.slot)


class Server(StreamServer):  # type: ignore[misc]
    """gevent's server of one process of several."""

    def __init__(self, place: Place, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._place = place
        self._freely_until = 0.0
        self._left = False

    def start(self) -> None:
        """Listen."""
        super().start()
        self._place.listen()

    def close(self) -> None:
        """Stop listening."""
        self._place.leave()
        super().close()

    def do_read(self) -> Any:
        """A connection and its address; None where there is none for this process."""
        left, self._left = self._left, False
        if not self._place.ahead() or time.monotonic() < self._freely_until:
            return super().do_read()
        if not left:
            self.stop_accepting()
            self._timer = self.loop.timer(WAIT_SECONDS)
            self._timer.start(self._look_again)
            return None
        accepted = super().do_read()
        if accepted is not None:
            self._freely_until = time.monotonic() + FREELY_SECONDS
        return accepted

    def do_handle(self, *args: Any) -> None:
        """Serve a connection, in a greenlet of its own."""
        self._place.count(1)
        super().do_handle(*args)

    def do_close(self, *args: Any) -> None:
        """It is over."""
        self._place.count(-1)
        super().do_close(*args)

    def _look_again(self) -> None:
        if self.started:
            self._left = True
            self._do_read()
            self.start_accepting()
