"""Metrics as text, in the format that the scraper asks for."""

import hmac
import logging
import socket
import threading
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer, choose_encoder
from prometheus_client.registry import Collector

from shared.settings import is_loopback
from shared.telemetry.metrics.instruments import Instruments

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


def serve(instruments: Instruments, host: str, port: int, tokens: Collection[str] = ()) -> Any:
    """Show this process's own metrics over HTTP to whoever has one of `tokens`. Without any, `host` is of
    loopback and they are for the programs of this machine.

    A port that is taken is logged; the work goes on. Returns a function that ends it.
    """
    page = make_wsgi_app(instruments.registry)
    app = _asking(page, tokens) if tokens else _local(page)
    kind = _Server6 if ":" in host else ThreadingWSGIServer
    try:
        server = make_server(host, port, app, kind, _Quiet)
    except OSError as error:
        _log.error("METRICS_PORT: cannot listen on %s:%d: %s", host, port, error.strerror)
        return lambda: None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2)

    return stop


def _asking(page: WSGIApplication, tokens: Collection[str]) -> WSGIApplication:
    """A page for those who send one of the tokens."""
    wanted = [token.encode() for token in tokens]

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        given = token.strip().encode("latin-1", "replace")
        known = [hmac.compare_digest(given, one) for one in wanted]
        if scheme.lower() == "bearer" and any(known):
            return page(environ, start_response)
        said = b"Send the token of METRICS_TOKEN as 'Authorization: Bearer <token>'.\n"
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("WWW-Authenticate", "Bearer"),
            ("Content-Length", str(len(said))),
        ]
        start_response("401 Unauthorized", headers)
        return [said]

    return answer


def _local(page: WSGIApplication) -> WSGIApplication:
    """A page for callers who mean this machine.

    A page in a browser here, whose name was rebound to this address, sends that name as its host.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if is_loopback(urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname or ""):
            return page(environ, start_response)
        start_response("403 Forbidden", [("Content-Length", "0")])
        return []

    return answer


class _Server6(ThreadingWSGIServer):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 10.0
    """Seconds that a client may take to send its request."""

    def log_message(self, *_: object) -> None:
        """Scrapes are not worth a line."""
