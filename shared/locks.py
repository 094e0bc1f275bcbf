"""One thread waits for another, once; under gevent the same between greenlets. And a lock for a few steps."""

import sys
import threading
from contextlib import AbstractContextManager
from typing import Any


def brief_lock() -> AbstractContextManager[object]:
    """A lock for a few steps on values, between which nobody waits, logs or calls what others wrote.

    Under gevent it is the interpreter's own lock: no greenlet can lose its turn between such steps, so only
    other threads contend, and gevent's lock costs ten times as much.
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    make = threading.Lock if monkey is None else monkey.get_original("_thread", "allocate_lock")
    lock: AbstractContextManager[object] = make()
    return lock


class Wakeup:
    """Lets one thread wait for another, once. A lock that is released once: an Event is three of them."""

    __slots__ = ("_awake", "_lock")

    def __init__(self) -> None:
        self._awake = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, timeout: float | None = None) -> None:
        """Return when it was woken, be it before, or after `timeout` seconds. For one caller at a time."""
        if not self._awake:
            self._lock.acquire(timeout=-1 if timeout is None else timeout)

    def wake(self) -> None:
        """Wake who waits, or whoever will. Only the first time means something."""
        if not self._awake:
            self._awake = True
            self._lock.release()
