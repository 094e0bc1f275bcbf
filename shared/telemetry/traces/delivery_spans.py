"""A webhook's delivery as the last part of its job's trace."""

import time

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from shared import context
from shared.hooks import Hooks
from shared.telemetry.traces.trace_context import kept, parsed


class DeliverySpans(Hooks):
    """One span a send. Its thread has bound what names the job and its trace."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def webhook_delivered(self, model: str, outcome: str, seconds: float, attempt: int) -> None:
        traceparent = context.traceparent()
        parent = parsed(traceparent) if kept(traceparent) else None
        if parent is None:
            return
        bound = context.bound()
        ended = time.time_ns()
        span = self._tracer.start_span(
            "deliver webhook",
            parent,
            SpanKind.CLIENT,
            {
                "truthgpt.delivery": bound.get("delivery", ""),
                "truthgpt.job": bound.get("job", ""),
                "truthgpt.model": model,
                "truthgpt.attempt": attempt,
                "truthgpt.outcome": outcome,
            },
            start_time=ended - int(seconds * 1e9),
        )
        if outcome != "delivered":
            span.set_status(Status(StatusCode.ERROR, outcome))
        span.end(ended)
