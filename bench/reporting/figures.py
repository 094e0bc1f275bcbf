"""The arithmetic of the harness: percentiles, medians with their spread, ratios. Pure."""

import math
import statistics
from collections.abc import Sequence

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """A figure over several rounds."""

    median: float
    low: float
    high: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that `share` of all values do not exceed.

    `ordered` is sorted, `share` within (0, 1]. NaN where there are no values.
    """
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The ratio of the medians, and the smallest and largest ratio within one round.

    The i-th values of both are of the i-th round, when both ran one after the other.
    """
    rounds = [over(mine, other) for mine, other in zip(ours, theirs, strict=True)]
    medians = over(statistics.median(ours), statistics.median(theirs))
    return Spread(medians, min(rounds), max(rounds))


def over(mine: float, other: float) -> float:
    """A quotient; infinite where the other side did nothing at all."""
    return mine / other if other else math.inf
