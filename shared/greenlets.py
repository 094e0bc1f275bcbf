"""Waiting for another greenlet. Imported only where gevent has taken the place of threads."""

from typing import Any

from gevent import get_hub, getcurrent


class GreenletWakeup:
    """A `shared.locks.Wakeup` between greenlets of one thread: a switch there and one back, and no more."""

    __slots__ = ("_awake", "_waiter")

    def __init__(self) -> None:
        self._awake = False
        self._waiter: Any = None

    def wait(self, timeout: float | None = None) -> None:
        if self._awake:
            return
        hub = get_hub()
        self._waiter = getcurrent()
        timer = None if timeout is None else hub.loop.timer(timeout)
        try:
            if timer is not None:
                timer.start(self._resume, update=True)
            hub.switch()
        finally:
            self._waiter = None
            if timer is not None:
                timer.stop()
                timer.close()

    def wake(self) -> None:
        if not self._awake:
            self._awake = True
            if self._waiter is not None:
                get_hub().loop.run_callback(self._resume)

    def _resume(self) -> None:
        # In the hub. Who waited may have been killed meanwhile, or have waited long enough.
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.switch()
