"""One thread waits for another, once; under gevent the same between greenlets. And a lock for a few steps."""

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, partial
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


@cache
def _made_held() -> Callable[[], Any]:
    """What makes a lock that is held. Under gevent it is a semaphore: its lock is Python around one."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        from gevent.lock import Semaphore

        return partial(Semaphore, 0)

    def made() -> threading.Lock:
        lock = threading.Lock()
        lock.acquire()
        return lock

    return made


class Wakeup:
    """Lets one thread wait for another, once. A lock that is released once: an Event is three of them."""

    __slots__ = ("_awake", "_lock")

    def __init__(self) -> None:
        self._awake = False
        self._lock = _made_held()()

    def wait(self, timeout: float | None = None) -> None:
        """Return when it was woken, be it before, or after `timeout` seconds. For one caller at a time."""
        if not self._awake:
            self._lock.acquire() if timeout is None else self._lock.acquire(True, timeout)

    def wake(self) -> None:
        """Wake who waits, or whoever will. Only the first time means something."""
        if not self._awake:
            self._awake = True
            self._lock.release()
