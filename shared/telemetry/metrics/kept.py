"""Series that are kept in memory until they are written: a write takes a lock and goes to a mapped file."""

from bisect import bisect_left
from collections import Counter
from typing import Any

from shared.telemetry.metrics.instruments import Instruments


class KeptCounter:
    """Counts for a counter's series, which cannot fall: what is not above 0 counts for nothing."""

    __slots__ = ("_amount", "_series")

    def __init__(self, series: Any) -> None:
        self._series = series
        self._amount = 0.0

    def inc(self, amount: float = 1) -> None:
        if amount > 0:
            self._amount += amount

    def write(self) -> None:
        if self._amount:
            self._series.inc(self._amount)
            self._amount = 0.0


class KeptHistogram:
    """Observes for a histogram's series."""

    __slots__ = ("_bounds", "_buckets", "_series", "_sum")

    def __init__(self, series: Any) -> None:
        self._series = series
        self._bounds = series.bounds
        self._buckets: Counter[int] = Counter()
        self._sum = 0.0

    def observe(self, amount: float, times: int = 1) -> None:
        """Observe `amount` so many times."""
        self._buckets[bisect_left(self._bounds, amount)] += times
        self._sum += amount * times

    def write(self) -> None:
        if self._buckets:
            self._series.add(self._buckets, self._sum)
            self._buckets = Counter()
            self._sum = 0.0


class Ledger:
    """Series of one observer. Each exists from the start, with the value 0.

    Not safe to share between threads: observers have a lock of their own.
    """

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._kept: list[KeptCounter | KeptHistogram] = []

    def counter(self, name: str, *labels: str) -> KeptCounter:
        """The counter's series with these label values."""
        kept = KeptCounter(self._instruments.child(name, *labels))
        self._kept.append(kept)
        return kept

    def histogram(self, name: str, *labels: str) -> KeptHistogram:
        """The histogram's series with these label values."""
        kept = KeptHistogram(self._instruments.child(name, *labels))
        self._kept.append(kept)
        return kept

    def write(self) -> None:
        """Write down what has changed since the last time."""
        for kept in self._kept:
            kept.write()
