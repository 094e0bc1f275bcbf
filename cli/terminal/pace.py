"""Computes jobs and tokens a second from successive answers of `GET /v1/stats`.

The server counts by the minute and tells the sum over the last five to six, with the seconds that these
are. Within one minute both only grow, so their differences are what has ended since, measured by the
server's own clock. When a minute is over its oldest one leaves the sum; the pace before stands until there
is a new one.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SPAN = 10.0
"""Seconds that a pace looks back."""
LEAST = 0.5
"""Seconds; what ended in a shorter time says little."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Jobs that ended and tokens of those that succeeded, a second, over the last `seconds`."""

    jobs: float
    tokens: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Point:
    at: float
    jobs: int
    tokens: int


class Paces:
    """The paces of all models. `add` is given each answer of `GET /v1/stats` in turn."""

    def __init__(self) -> None:
        self._points: dict[str, deque[_Point]] = {}
        self._paces: dict[str, Pace] = {}

    def add(self, stats: Mapping[str, Any]) -> dict[str, Pace]:
        """The pace of each model; the first time that over all the minutes it was told of."""
        self._paces = {row["model"]: self._pace(row) for row in stats["models"]}
        return self._paces

    def _pace(self, row: Mapping[str, Any]) -> Pace:
        name, span = row["model"], row["window_seconds"]
        average = Pace(row["throughput"], row["tokens_per_second"], span)
        point = _Point(span, sum(row["ended"].values()), row["tokens"])
        points = self._points.setdefault(name, deque())
        if points and point.at < points[-1].at:
            points.clear()
        points.append(point)
        while point.at - points[0].at > SPAN:
            points.popleft()
        passed = point.at - points[0].at
        if passed < LEAST:
            return self._paces.get(name, average)
        jobs, tokens = point.jobs - points[0].jobs, point.tokens - points[0].tokens
        return Pace(max(0, jobs) / passed, max(0, tokens) / passed, passed)
