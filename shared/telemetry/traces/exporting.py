"""Sends spans over OTLP, by gRPC or HTTP, never for long, and never twice in vain."""

import logging
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from shared.telemetry.traces.collector import Collector

GRPC_PORT = 4317
TIMEOUT_SECONDS = 2.0


class PatientExporter(SpanExporter):
    """Sends to the collector while it is there; tells it apart when it is not. Drops what it cannot send."""

    def __init__(self, exporter: SpanExporter, collector: Collector) -> None:
        self._exporter = exporter
        self._collector = collector

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if not self._collector.present:
            return SpanExportResult.FAILURE
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._collector.sent()
        else:
            self._collector.lost()
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def exporter(endpoint: str) -> SpanExporter:
    """`grpc://`, and port 4317 without a path, is gRPC; else HTTP with protobuf bodies, to `/v1/traces`.

    `https` and `grpcs` are encrypted. Both read `OTEL_EXPORTER_OTLP_HEADERS` and the certificates' variables.
    """
    # Each lost batch would be a line; `Collector` says it once.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    parts = urlsplit(endpoint)
    bare = parts.path in ("", "/")
    if parts.scheme in ("grpc", "grpcs") or (parts.port == GRPC_PORT and bare):
        address = f"{parts.hostname}:{parts.port or GRPC_PORT}"
        return _grpc(address, secure=parts.scheme in ("https", "grpcs"))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    path = "/v1/traces" if bare else parts.path
    return OTLPSpanExporter(urlunsplit(parts._replace(path=path)), timeout=TIMEOUT_SECONDS)


def _grpc(address: str, *, secure: bool) -> SpanExporter:
    _let_grpc_yield()
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(address, insecure=not secure, timeout=TIMEOUT_SECONDS)


def _let_grpc_yield() -> None:
    """Under gevent gRPC's own waiting would stop every greenlet of the process."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("socket"):
        from grpc.experimental import gevent

        gevent.init_gevent()
