"""The API's part of a trace: a server span from the request to the last byte of its answer."""

from contextvars import ContextVar, Token

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from shared import context
from shared.hooks import Hooks
from shared.telemetry.traces.trace_context import parsed, spelled

_current: ContextVar[tuple[Span, Token[Context]] | None] = ContextVar("request_span", default=None)

with suppress_instrumentation():
    _NOT_KEPT = get_current()
    """Else each Redis command would be put into words for a span that is not kept."""


class RequestSpans(Hooks):
    """Continues the caller's trace, or begins one, and binds it: jobs, doorbells and log lines carry it on.

    A thread or greenlet serves one request at a time; what its context holds belongs to that one.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def request_began(self, method: str, endpoint: str) -> None:
        name = f"{method} {endpoint}" if method != endpoint else endpoint
        span = self._tracer.start_span(name, parsed(context.traceparent()), SpanKind.SERVER)
        context.bind(traceparent=spelled(span))
        if span.is_recording():
            span.set_attribute("http.request.method", method)
            span.set_attribute("http.route", endpoint)
            span.set_attribute("truthgpt.request.id", context.bound().get("request_id", ""))
            token = attach(trace.set_span_in_context(span))
        else:
            token = attach(_NOT_KEPT)
        _current.set((span, token))

    def request_ended(self, method: str, endpoint: str, status: int, seconds: float) -> None:  # noqa: ARG002
        found = _current.get()
        if found is None:
            return
        _current.set(None)
        span, token = found
        detach(token)
        if not span.is_recording():
            return
        span.set_attribute("http.response.status_code", status)
        for name in ("tenant", "job", "model"):
            if (value := context.bound().get(name)) is not None:
                span.set_attribute(f"truthgpt.{name}", value)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()
