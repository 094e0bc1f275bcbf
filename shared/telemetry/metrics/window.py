"""How many a second, over the last seconds."""

import threading
import time
from collections import deque
from collections.abc import Callable


class Window:
    """A sliding window of `seconds`, kept in steps of one second: bounded, whatever comes in."""

    def __init__(self, seconds: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        self._counts: deque[tuple[int, int]] = deque(maxlen=seconds + 1)

    def add(self, count: int) -> None:
        now = int(self._clock())
        with self._lock:
            if self._counts and self._counts[-1][0] == now:
                count += self._counts.pop()[1]
            self._counts.append((now, count))

    def rate(self) -> float:
        """Per second, over the full seconds of the window and the one that runs."""
        now = self._clock()
        start = int(now) - self._seconds
        with self._lock:
            total = sum(count for second, count in self._counts if second > start)
        span = min(self._seconds - 1 + now % 1.0, now - self._began)
        return total / max(1.0, span)
