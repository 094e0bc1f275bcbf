"""The API's part of a trace: a server span from the request to the last byte of its answer."""

from contextlib import ExitStack
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from shared import context
from shared.hooks import Hooks
from shared.telemetry.trace_context import parsed, spelled

_current: ContextVar[tuple[Span, ExitStack] | None] = ContextVar("request_span", default=None)


class RequestSpans(Hooks):
    """Continues the caller's trace, or begins one, and binds it: jobs, doorbells and log lines carry it on.

    A thread or greenlet serves one request at a time; what its context holds belongs to that one.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def request_began(self, method: str, endpoint: str) -> None:
        span = self._tracer.start_span(
            f"{method} {endpoint}" if method != endpoint else endpoint,
            parsed(context.traceparent()),
            SpanKind.SERVER,
            {
                "http.request.method": method,
                "http.route": endpoint,
                "truthgpt.request.id": context.bound().get("request_id", ""),
            },
        )
        context.bind(traceparent=spelled(span))
        inside = ExitStack()
        inside.enter_context(trace.use_span(span))
        if not span.is_recording():
            # Else each Redis command would be put into words for a span that is not kept.
            inside.enter_context(suppress_instrumentation())
        _current.set((span, inside))

    def request_ended(self, method: str, endpoint: str, status: int, seconds: float) -> None:  # noqa: ARG002
        found = _current.get()
        if found is None:
            return
        _current.set(None)
        span, inside = found
        inside.close()
        span.set_attribute("http.response.status_code", status)
        for name in ("tenant", "job", "model"):
            if (value := context.bound().get(name)) is not None:
                span.set_attribute(f"truthgpt.{name}", value)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()
