"""Queues and engines as the store has them, read when somebody scrapes, and never waited for long."""

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.errors import StoreUnavailable
from shared.jobs import JobStore, ModelStatus
from shared.telemetry.catalogue import BY_NAME

KEPT_SECONDS = 1.0
PATIENCE_SECONDS = 0.5
STATES = ("starting", "ready", "busy", "unhealthy", "failed", "stopped")

Statuses = Mapping[str, ModelStatus]


class QueueReader:
    """The models' status, at most a second old; None where the store does not answer in time.

    One thread at a time asks, however many scrapes come, so an outage costs each of them
    `PATIENCE_SECONDS` and nothing piles up.
    """

    def __init__(
        self, store: JobStore, models: Collection[str], *, patience: float = PATIENCE_SECONDS
    ) -> None:
        self._store = store
        self._models = models
        self._patience = patience
        self._lock = threading.Lock()
        self._asking: threading.Event | None = None
        self._found: Statuses | None = None
        self._at = float("-inf")

    def read(self) -> Statuses | None:
        with self._lock:
            if time.monotonic() - self._at < KEPT_SECONDS:
                return self._found
            asking = self._asking
            if asking is None:
                asking = self._asking = threading.Event()
                threading.Thread(target=self._ask, args=(asking,), daemon=True).start()
        return self._found if asking.wait(self._patience) else None

    def _ask(self, done: threading.Event) -> None:
        found: Statuses | None = None
        try:
            found = {model: self._store.status(model) for model in self._models}
        except StoreUnavailable:
            pass
        finally:
            with self._lock:
                self._found, self._at, self._asking = found, time.monotonic(), None
            done.set()


class QueueCollector(Collector):
    """The reader's findings as metrics. While the store is away `inference_redis_up` alone says so."""

    def __init__(self, reader: QueueReader) -> None:
        self._reader = reader

    def collect(self) -> Iterator[Any]:
        """Metric families."""
        statuses = self._reader.read()
        up = _family("inference_redis_up")
        up.add_metric((), 0 if statuses is None else 1)
        yield up
        depth, running = _family("inference_queue_depth"), _family("inference_running_jobs")
        engines = _family("inference_engine_state")
        for model, status in (statuses or {}).items():
            depth.add_metric((model,), status.waiting)
            running.add_metric((model,), status.running)
            states = [report.get("state") for report in status.workers.values()]
            for state in STATES:
                engines.add_metric((model, state), states.count(state))
        yield from (depth, running, engines)


def _family(name: str) -> Any:
    metric = BY_NAME[name]
    return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
