"""The catalogue's metrics as prometheus_client's objects, made when they are first asked for."""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.telemetry.metrics.catalogue import BY_NAME


class WeightedHistogram(Histogram):
    """A histogram that takes many observations at the price of few."""

    @property
    def bounds(self) -> Sequence[float]:
        """The upper bounds of its buckets."""
        return self._upper_bounds

    def add(self, buckets: Mapping[int, int], total: float) -> None:
        """Take over observations: how many by bucket, and their sum."""
        self._sum.inc(total)
        for bucket, times in buckets.items():
            self._buckets[bucket].inc(times)

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe each of `amounts`."""
        if amounts:
            buckets = Counts(bisect_left(self.bounds, amount) for amount in amounts)
            self.add(buckets, sum(amounts))


class Instruments:
    """A process's own metrics, by name. A process shows only what it asked for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The metric of this name. Raises `KeyError` for one that the catalogue does not know."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def child(self, name: str, *labels: str) -> Any:
        """The series with these label values. It exists from now on, with the value 0."""
        return self[name].labels(*labels)

    def children(self, name: str, labels: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], Any]:
        """Series by their label values: whoever looks up in here makes no others."""
        return {values: self.child(name, *values) for values in labels}

    def _make(self, name: str) -> Any:
        metric = BY_NAME[name]
        given = (metric.name, metric.help, metric.labels)
        match metric.kind:
            case "counter":
                return Counter(*given, registry=self.registry)
            case "gauge":
                return Gauge(*given, registry=self.registry, multiprocess_mode=metric.merge)
            case "histogram":
                return WeightedHistogram(*given, registry=self.registry, buckets=metric.buckets)
