"""Which figures are compared, and what must be reached in them."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from bench.turn import Turn

DURABLE = "the best durable peer"
BEHIND = ("worker", "engine", "rescue")
"""The groups of processes behind the queue, whatever a subject has of them."""


@dataclass(frozen=True, slots=True)
class Figure:
    """`of` reads it off a turn; NaN or 0 where a turn has none. `digits` are shown behind the point."""

    title: str
    unit: str
    more_is_better: bool
    digits: int
    of: Callable[[Turn], float]


def _worker_ms(turn: Turn) -> float:
    return sum(turn.cost.cpu_ms.get(group, 0.0) for group in BEHIND)


FIGURES = {
    "rate": Figure("answers a second", "", True, 0, lambda turn: turn.report.rate),
    "p50": Figure("p50", " ms", False, 2, lambda turn: turn.report.latency.p50),
    "p99": Figure("p99", " ms", False, 2, lambda turn: turn.report.latency.p99),
    "worker_ms": Figure("worker processor time a job", " ms", False, 3, _worker_ms),
}


class Goal(msgspec.Struct, frozen=True):
    """At least (or, of a figure where less is better, at most) `bound` times the figure of `peer`.

    Without a peer the bound is one of our own figure, in its unit.
    """

    figure: str
    bound: float
    peer: str | None = None

    @property
    def text(self) -> str:
        sign = "≥" if FIGURES[self.figure].more_is_better else "≤"
        unit = FIGURES[self.figure].unit if self.peer is None else " ×"
        return f"{sign} {self.bound:g}{unit}"

    def met(self, reached: float) -> bool:
        if FIGURES[self.figure].more_is_better:
            return reached >= self.bound
        return reached <= self.bound
