"""How threads or greenlets keep out of each other's way and wait for each other, for little.

Where gevent has patched `threading`, locks and events are Python's own no more: they are made for whatever
a greenlet may do while it holds one. What is here is for less than that.
"""

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol


class Wakeup(Protocol):
    """Lets one thread or greenlet wait for another, once."""

    def wait(self, timeout: float | None = None) -> None:
        """Return when it was woken, be it before, or after `timeout` seconds. For one caller at a time."""

    def wake(self) -> None:
        """Wake who waits, or whoever will. Only the first time means something."""


class ThreadWakeup:
    """Between threads. The lock is released once: an Event is three of them."""

    __slots__ = ("_awake", "_lock")

    def __init__(self) -> None:
        self._awake = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self, timeout: float | None = None) -> None:
        if not self._awake:
            self._lock.acquire(timeout=-1 if timeout is None else timeout)

    def wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._lock.release()


def wakeups() -> Callable[[], Wakeup]:
    """What makes wake-ups in this process, as it is now."""
    if _patched() is None:
        return ThreadWakeup
    from shared.greenlets import GreenletWakeup

    return GreenletWakeup


def brief_lock() -> AbstractContextManager[object]:
    """A lock for a few steps which wait for nothing: no call of a server, no line of a log, no other lock."""
    gevent = _patched()
    if gevent is None:
        return threading.Lock()
    # Greenlets take turns only where they wait, so none finds it taken by another.
    lock: AbstractContextManager[object] = gevent.get_original("_thread", "allocate_lock")()
    return lock


def brief_rlock() -> Any:
    """The same, which who holds it may take again."""
    gevent = _patched()
    return threading.RLock() if gevent is None else gevent.get_original("_thread", "RLock")()


def _patched() -> Any:
    gevent = sys.modules.get("gevent.monkey")
    return gevent if gevent is not None and gevent.is_module_patched("threading") else None
