"""Watches whether this worker's Celery consumer takes doorbells from the broker.

Everything else of a worker may be well while its consumer is not: deaf after a broken connection, paused by
an operator (`cancel_consumer`), without the right to read. Jobs then wait until the lease renewer notices.
So a worker that has heard nothing for a while rings for its own model, through the very broker and queue,
and reports itself unhealthy when no doorbell comes.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUIET_BEATS = 2
"""Beats without a doorbell, after which one is rung to see that it comes."""
DEAF_BEATS = 5
"""Beats without a doorbell, after which the consumer counts as deaf."""


class Doorbells:
    """`answering` for each doorbell that comes, `beat` at every beat of the lease renewer.

    `ring` pushes a doorbell into this worker's queue, unless one waits there. `beat_seconds` is its
    interval: what makes it beat sooner counts no beat here.
    """

    def __init__(
        self,
        ring: Callable[[], object],
        beat_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._beat_seconds = beat_seconds
        self._clock = clock
        self._beaten = clock()
        self._quiet = 0
        self._answers = 0
        self._heard: float | None = None
        self._over = False

    @property
    def heard_seconds(self) -> float | None:
        """Since the last doorbell, 0 while one is answered; None before the first."""
        if self._answers:
            return 0.0
        return None if self._heard is None else self._clock() - self._heard

    @property
    def deaf(self) -> bool:
        return self._quiet >= DEAF_BEATS and not self._answers and not self._over

    @contextmanager
    def answering(self) -> Iterator[None]:
        """A doorbell has come through the broker, and is answered inside."""
        self._quiet, self._answers = 0, self._answers + 1
        try:
            yield
        finally:
            self._quiet, self._answers = 0, self._answers - 1
            self._heard = self._clock()

    def beat(self, *, took: bool) -> None:
        """`took`: jobs were taken since the last beat, however they were learned of."""
        now = self._clock()
        if self._over or now - self._beaten < self._beat_seconds / 2:
            return
        self._beaten = now
        self._quiet = 0 if took or self._answers else self._quiet + 1
        if self._quiet >= QUIET_BEATS or (self._quiet and self._heard is None):
            self._ring()

    def stop(self) -> None:
        """The consumer is being shut down: silence means nothing any more."""
        self._over = True
