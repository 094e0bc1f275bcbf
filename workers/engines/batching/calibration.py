"""Measures, while a model is warmed up, how much work a step should hold."""

import time
from collections.abc import Callable, Sequence

from workers.engines.faults import exhausted, reclaim

ENOUGH = 0.92
"""Of the best throughput seen: the smallest step that reaches it keeps newcomers waiting least."""
LONGEST_STEP = 0.25
"""Seconds; nothing larger is tried after a step that took so long."""
REPEATS = 2


def calibrate(
    run: Callable[[int], object],
    sizes: Sequence[int],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[int, dict[int, float]]:
    """The smallest of `sizes` (ascending) whose throughput is nearly the best, and each one's seconds.

    `run` does a step of a size and comes back when it is done. Each size counts with its quickest run
    of `REPEATS`, after one that warms up. A size that does not fit into memory ends the search; for the
    smallest the error is let through.
    """
    seconds: dict[int, float] = {}
    run(sizes[0])
    for size in sizes:
        try:
            seconds[size] = min(_timed(run, size, clock) for _ in range(REPEATS))
        except Exception as error:
            if not seconds or not exhausted(error):
                raise
            break
        if seconds[size] > LONGEST_STEP:
            break
    reclaim()
    return choose(seconds), seconds


def choose(seconds: dict[int, float]) -> int:
    """The smallest size that does nearly as much a second as the best."""
    best = max(size / max(took, 1e-9) for size, took in seconds.items())
    return min(size for size, took in seconds.items() if size >= ENOUGH * best * max(took, 1e-9))


def _timed(run: Callable[[int], object], size: int, clock: Callable[[], float]) -> float:
    started = clock()
    run(size)
    return clock() - started
