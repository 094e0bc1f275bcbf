"""Decides how long an idle engine waits for more jobs before it runs a batch: only while that pays.

Let a batch of n take a + b n seconds, and let the next job come after a gap g. Without waiting that job
stands behind the batch and then pays a + b itself; with waiting it ends with the others. It saves a - g,
and each of the n loses g + b. Waiting lowers the sum of completion times while a > g (n + 1) + b n, so it
pays for gaps up to (a - b n) / (n + 1). a and b are fitted to the batches that ran (least squares with
forgetting), g is an average of the gaps seen, and never less than the time since the last arrival.
"""

FORGET = 0.9
"""Weight of all earlier observations when a new one comes."""


class StepCost:
    """Seconds of a batch by its size, learned from those that ran: `overhead` + `per_item` * size."""

    def __init__(self) -> None:
        self._weight = self._size = self._seconds = self._squares = self._products = 0.0

    def ran(self, size: float, seconds: float) -> None:
        """A batch of `size` took `seconds`."""
        self._weight = self._weight * FORGET + 1
        self._size = self._size * FORGET + size
        self._seconds = self._seconds * FORGET + seconds
        self._squares = self._squares * FORGET + size * size
        self._products = self._products * FORGET + size * seconds

    @property
    def per_item(self) -> float:
        """Seconds; while only one size was seen, all of the cost is taken to be the items'."""
        if not self._weight:
            return 0.0
        size, seconds = self._size / self._weight, self._seconds / self._weight
        spread = self._squares / self._weight - size * size
        if spread <= 1e-6 * size * size:
            return seconds / size
        slope = (self._products / self._weight - size * seconds) / spread
        return min(max(slope, 0.0), seconds / size)

    @property
    def overhead(self) -> float:
        """Seconds that a batch takes whatever its size."""
        if not self._weight:
            return 0.0
        return max(0.0, (self._seconds - self.per_item * self._size) / self._weight)

    def seconds(self, size: float) -> float:
        """What a batch of `size` is expected to take."""
        return self.overhead + self.per_item * size


class Arrivals:
    """The mean gap between jobs, the newest counting most. Infinite before the second one."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._count = 0.0
        self._time = 0.0

    def came(self, now: float) -> None:
        if self._last is not None:
            self._count = self._count * FORGET + 1
            self._time = self._time * FORGET + (now - self._last)
        self._last = now

    def gap(self) -> float:
        return self._time / self._count if self._count else float("inf")

    def since(self, now: float) -> float:
        return now - self._last if self._last is not None else float("inf")


def pays_until(waiting: int, cost: StepCost) -> float:
    """The longest gap to the next job for which waiting lowers the sum of completion times (s)."""
    return (cost.overhead - cost.per_item * waiting) / (waiting + 1)


def wait(
    waiting: int,
    most: int,
    cost: StepCost,
    arrivals: Arrivals,
    *,
    waited: float,
    limit: float,
    now: float,
) -> float:
    """Seconds to wait for company before `waiting` jobs run; 0 when they should run now.

    `waited` is how long the oldest has stood here while the engine was free, `limit` the most that it
    may.
    """
    if not 0 < waiting < most:
        return 0.0
    longest = pays_until(waiting, cost)
    if arrivals.gap() >= longest:
        return 0.0
    return max(0.0, min(limit - waited, longest - arrivals.since(now)))
