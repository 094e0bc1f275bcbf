"""Metrics as text, in the format that the scraper asks for."""

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from shared.telemetry.instruments import Instruments

_log = logging.getLogger(__name__)


Aside = Callable[[Callable[[], bytes]], bytes]
"""Does some work and returns what it returns, perhaps in another thread."""


def at_once(work: Callable[[], bytes]) -> bytes:
    return work()


class Exposition:
    """All of some sources on one page.

    `first` writes down what this process has not yet. `live` is asked then, in the thread that renders, for
    it may wait for an answer. Reading the others and writing the page, which keeps a processor busy for a
    while, is done by `aside`.
    """

    def __init__(
        self,
        *sources: Collector,
        live: Collector | None = None,
        aside: Aside = at_once,
        first: Callable[[], None] = lambda: None,
    ) -> None:
        self._sources = sources
        self._live = live
        self._aside = aside
        self._first = first

    def render(self, accept: str) -> tuple[str, bytes]:
        """Content type and body, for an Accept header."""
        self._first()
        encode, content_type = choose_encoder(accept)
        registry = CollectorRegistry(auto_describe=False)
        for source in self._sources:
            registry.register(source)
        if self._live is not None:
            registry.register(_Collected(list(self._live.collect())))
        return content_type, self._aside(partial(encode, registry))


class _Collected(Collector):
    """What another collector has said already."""

    def __init__(self, families: list[Any]) -> None:
        self._families = families

    def collect(self) -> Iterable[Any]:
        return self._families


def serve(instruments: Instruments, host: str, port: int) -> Any:
    """Show this process's own metrics over HTTP. A port that is taken is logged; the work goes on.

    Returns a function that ends it.
    """
    try:
        server, thread = start_http_server(port, host, instruments.registry)
    except OSError as error:
        _log.error("METRICS_PORT: cannot listen on %s:%d: %s", host, port, error.strerror)
        return lambda: None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2)

    return stop
