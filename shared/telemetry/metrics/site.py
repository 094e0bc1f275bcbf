"""A process's metrics, put together: what observes it, what shows it, what keeps it up to date.

Import this only where metrics are switched on: it brings prometheus_client.
"""

import logging
import os
from collections.abc import Callable, Collection

from prometheus_client.registry import Collector

from shared.hooks import Hooks
from shared.redis.connection import connect
from shared.settings import Settings, is_loopback
from shared.store.jobs import JobStore
from shared.telemetry.metrics.batches import BatchMetrics
from shared.telemetry.metrics.deliveries import DeliveryMetrics
from shared.telemetry.metrics.directory import Directory
from shared.telemetry.metrics.exposition import Aside, Exposition, at_once, serve
from shared.telemetry.metrics.instruments import Instruments
from shared.telemetry.metrics.jobs import JobMetrics
from shared.telemetry.metrics.processes import ProcessMetrics, Ticker
from shared.telemetry.metrics.queues import QueueCollector, QueueReader
from shared.telemetry.metrics.requests import RequestMetrics
from shared.telemetry.metrics.rescues import RescueMetrics

SCRAPE_TIMEOUT = 0.25
"""Seconds for one answer of Redis to a scrape."""

_log = logging.getLogger(__name__)


class Site:
    """One process's metrics. `name` is its part: `api`, `rescue`, or `worker-MODEL`.

    Make one a process, before any other metric: its values go into the machine's shared directory.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._source: Collector | None = None
        directory = Directory(settings.state_dir.expanduser() / "metrics")
        try:
            directory.join()
            self._source = directory
        except OSError as error:
            _log.warning("metrics stay in this process: %s: %s", directory.path, error.strerror)
        self._instruments = Instruments()
        process = ProcessMetrics(self._instruments, name, os.getpid)
        self._ticks: list[Callable[[], None]] = [process.tick]
        self._ticker: Ticker | None = None
        self._unserve: Callable[[], None] = lambda: None
        self._writes: list[Callable[[], None]] = []

    def requests(self, routes: Collection[tuple[str, str]]) -> Hooks:
        """The API's observer. `routes` are (method, path template) pairs."""
        models = [spec.name for spec in self._settings.catalog]
        observer = RequestMetrics(self._instruments, routes, models)
        self._ticks.append(observer.tick)
        self._writes.append(observer.tick)
        return observer

    def process(self, name: str, pid: Callable[[], int | None]) -> None:
        """Another process that this one looks after; `pid` tells which it is now."""
        self._ticks.append(ProcessMetrics(self._instruments, name, pid).tick)

    def jobs(self, model: str) -> Hooks:
        """A worker's observer of one of its models."""
        observer = JobMetrics(self._instruments, model)
        self._ticks.append(observer.tick)
        self._writes.append(observer.tick)
        return observer

    def rescues(self) -> Hooks:
        """The rescue worker's observer."""
        return RescueMetrics(self._instruments, [spec.name for spec in self._settings.catalog])

    def deliveries(self) -> Hooks:
        """The observer of the worker that delivers webhooks."""
        return DeliveryMetrics(self._instruments, [spec.name for spec in self._settings.catalog])

    def batches(self) -> Hooks:
        """The observer of the process that works on batches."""
        return BatchMetrics(self._instruments)

    def exposition(self, aside: Aside = at_once) -> Exposition:
        """All processes of this machine, and the queues as the store has them.

        `aside` may read the directory's files and write the page in another thread.
        """
        settings = self._settings
        redis = connect(settings.require_redis(), SCRAPE_TIMEOUT, retries=0)
        reader = QueueReader(
            JobStore(redis, settings.key_prefix), [spec.name for spec in settings.catalog]
        )
        queues = QueueCollector(reader)
        if self._source is None:
            return Exposition(self._instruments.registry, live=queues, first=self._write)
        return Exposition(self._source, live=queues, aside=aside, first=self._write)

    def _write(self) -> None:
        for write in self._writes:
            write()

    def start(self, *, serving: bool) -> None:
        """Keep gauges up to date; `serving`: show this process's own metrics at `METRICS_PORT`."""
        self._ticker = Ticker(self._ticks)
        self._ticker.start()
        if serving and self._settings.metrics_port is not None:
            self._serve(self._settings.metrics_host, self._settings.metrics_port)

    def _serve(self, host: str, port: int) -> None:
        """To everybody on loopback, who is on this machine; beyond it to whoever has a token."""
        if is_loopback(host):
            self._unserve = serve(self._instruments, host, port)
            return
        given = (self._settings.metrics_token, self._settings.api_token)
        tokens = [token for token in given if token is not None]
        if not tokens:
            _log.error("METRICS_TOKEN: not set; without one no metrics are shown at %s", host)
            return
        self._unserve = serve(self._instruments, host, port, tokens)

    def stop(self) -> None:
        self._unserve()
        if self._ticker is not None:
            self._ticker.stop()
        self._write()
