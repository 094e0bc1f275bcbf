"""Metrics as text, in the format that the scraper asks for."""

import logging
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from shared.telemetry.instruments import Instruments

_log = logging.getLogger(__name__)


class Exposition:
    """All of some sources on one page."""

    def __init__(self, *sources: Collector) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        for source in sources:
            self._registry.register(source)

    def render(self, accept: str) -> tuple[str, bytes]:
        """Content type and body, for an Accept header."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)


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
