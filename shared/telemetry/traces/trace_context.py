"""W3C trace contexts as strings, which is how jobs and log lines carry them."""

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags

_SAMPLED = frozenset("13579bdf")


def kept(traceparent: str) -> bool:
    """Whether the span that it names is kept: the `sampled` flag."""
    return traceparent[-1:] in _SAMPLED


def parsed(traceparent: str) -> Context | None:
    """The context of a span elsewhere; None where there is none."""
    fields = traceparent.split("-")
    if len(fields) != 4:
        return None
    remote = SpanContext(
        int(fields[1], 16),
        int(fields[2], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(fields[3], 16)),
    )
    return trace.set_span_in_context(NonRecordingSpan(remote), Context())


def spelled(span: Span) -> str:
    """A span's context as the value of a `traceparent` header (W3C Trace Context)."""
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
