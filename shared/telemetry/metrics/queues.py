"""Queues, engines and Redis as the store has them, read when somebody scrapes, never waited for long."""

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from shared.domain.breaker import BreakerState
from shared.domain.errors import StoreUnavailable
from shared.domain.records import ModelStatus
from shared.store.jobs import JobStore
from shared.telemetry.metrics.catalogue import BY_NAME
from shared.telemetry.metrics.vitals import Vitals, read_vitals

KEPT_SECONDS = 1.0
PATIENCE_SECONDS = 0.5
STATES = ("starting", "ready", "busy", "unhealthy", "failed", "stopped")
BREAKER_STATES = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


@dataclass(frozen=True, slots=True)
class Found:
    """What the store said: of each model, and of the deployment."""

    models: Mapping[str, ModelStatus]
    vitals: Vitals


class QueueReader:
    """What the store says, at most a second old; None where it does not answer in time.

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
        self._found: Found | None = None
        self._at = float("-inf")

    def read(self) -> Found | None:
        with self._lock:
            if time.monotonic() - self._at < KEPT_SECONDS:
                return self._found
            asking = self._asking
            if asking is None:
                asking = self._asking = threading.Event()
                threading.Thread(target=self._ask, args=(asking,), daemon=True).start()
        return self._found if asking.wait(self._patience) else None

    def _ask(self, done: threading.Event) -> None:
        found: Found | None = None
        try:
            models = {model: self._store.status(model) for model in self._models}
            found = Found(models, read_vitals(self._store))
        except StoreUnavailable:
            # `found` stays None, which is told as `inference_redis_up 0`.
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
        """The metric families of queues, workers and breakers, read anew at each scrape."""
        found = self._reader.read()
        yield _of_all("inference_redis_up", 0 if found is None else 1)
        if found is None:
            return
        yield from _of_models(found.models)
        vitals = found.vitals
        yield _of_all("webhook_backlog", vitals.backlog)
        yield _of_all("webhook_overdue_seconds", vitals.overdue)
        yield _of_all("inference_batches_open", vitals.batches)
        yield _of_all("inference_batch_overdue_seconds", vitals.batch_overdue)
        yield _of_all("inference_redis_memory_bytes", vitals.memory)
        yield _of_all("inference_redis_memory_limit_bytes", vitals.memory_limit)


def _of_models(models: Mapping[str, ModelStatus]) -> Iterator[Any]:
    depth, running = _family("inference_queue_depth"), _family("inference_running_jobs")
    engines, breakers = _family("inference_engine_state"), _family("circuit_breaker_state")
    for model, status in models.items():
        depth.add_metric((model,), status.waiting)
        running.add_metric((model,), status.running)
        breakers.add_metric((model,), BREAKER_STATES[status.breaker.state])
        states = [report.get("state") for report in status.workers.values()]
        for state in STATES:
            engines.add_metric((model, state), states.count(state))
    yield from (depth, running, engines, breakers)


def _of_all(name: str, value: float | None) -> Any:
    family = _family(name)
    if value is not None:
        family.add_metric((), value)
    return family


def _family(name: str) -> Any:
    metric = BY_NAME[name]
    return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
