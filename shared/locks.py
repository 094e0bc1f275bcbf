"""One thread waits for another, once; under gevent the same between greenlets."""

import threading


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
