"""A real OTLP receiver, HTTP or gRPC, in the test's own process, and what it has been sent."""

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as stubs


@dataclass(frozen=True)
class Seen:
    """One span as received; ids are in hex, times in nanoseconds."""

    name: str
    process: str
    instance: str
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    failed: bool
    links: frozenset[str]
    attributes: dict[str, Any] = field(compare=False, hash=False, default_factory=dict)


class Received:
    """All spans that came."""

    def __init__(self) -> None:
        self._spans: list[Seen] = []
        self._lock = threading.Lock()
        self.refusing = False

    def add(self, request: Any) -> None:
        for resource in request.resource_spans:
            owner = _plain(resource.resource.attributes)
            for scope in resource.scope_spans:
                for span in scope.spans:
                    with self._lock:
                        self._spans.append(_seen(span, owner))

    def all(self, name: str = "", **attributes: Any) -> list[Seen]:
        """Those whose name begins so and whose `truthgpt.` attributes are these."""
        wanted = {f"truthgpt.{key}": value for key, value in attributes.items()}.items()
        with self._lock:
            spans = list(self._spans)
        return [s for s in spans if s.name.startswith(name) and wanted <= s.attributes.items()]

    def trace(self, trace_id: str) -> list[Seen]:
        return [span for span in self.all() if span.trace_id == trace_id]

    def tree(self, trace_id: str) -> str:
        """A trace for people."""
        children: dict[str, list[Seen]] = defaultdict(list)
        spans = self.trace(trace_id)
        known = {span.span_id for span in spans}
        for span in sorted(spans, key=lambda span: span.began):
            children[span.parent_id if span.parent_id in known else ""].append(span)

        def lines(parent: str, depth: int) -> list[str]:
            return [
                line
                for span in children[parent]
                for line in (
                    f"{'  ' * depth}{span.name} [{span.process}] {(span.ended - span.began) / 1e6:.1f} ms",
                    *lines(span.span_id, depth + 1),
                )
            ]

        return "\n".join(lines("", 0))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Who finds no place here looks for a collector again after seconds, and traces nothing before.
    request_queue_size = 128


class HttpReceiver:
    """`POST /v1/traces`, as an OpenTelemetry collector on port 4318."""

    def __init__(self) -> None:
        self.received = received = Received()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces" and not received.refusing:
                    received.add(service.ExportTraceServiceRequest.FromString(body))
                    self.send_response(200)
                else:
                    self.send_response(400)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class GrpcReceiver:
    """The trace service, as an OpenTelemetry collector on port 4317."""

    def __init__(self) -> None:
        self.received = received = Received()

        class Service(stubs.TraceServiceServicer):
            def Export(self, request: Any, context: Any) -> Any:
                received.add(request)
                return service.ExportTraceServiceResponse()

        self._server = grpc.server(ThreadPoolExecutor(2))
        stubs.add_TraceServiceServicer_to_server(Service(), self._server)
        self.endpoint = f"grpc://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None)


def _seen(span: Any, owner: dict[str, Any]) -> Seen:
    return Seen(
        name=span.name,
        process=owner["service.name"],
        instance=owner["service.instance.id"],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        failed=span.status.code == 2,
        links=frozenset(link.span_id.hex() for link in span.links),
        attributes=_plain(span.attributes),
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value")
        for pair in attributes
    }
