"""A bound on how long a greenlet waits, for one block after the other."""

from types import TracebackType

from gevent import get_hub, getcurrent


class _Over(BaseException):
    """Not an `Exception`, so that nobody in between takes it for a fault."""


class Deadline:
    """Ends a block after `seconds`, without a word; what follows the block tells by getting there.

    `gevent.Timeout` is good for one block, and makes a timer for each. Not for two blocks at once.
    """

    def __init__(self, seconds: float) -> None:
        self._timer = get_hub().loop.timer(seconds)
        self._over = _Over()

    def __enter__(self) -> None:
        self._timer.start(getcurrent().throw, self._over, update=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._timer.stop()
        return error is self._over
