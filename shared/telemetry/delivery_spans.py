"""A webhook's delivery as the last part of its job's trace."""

import time
from typing import Any

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from shared.hooks import Hooks
from shared.telemetry.trace_context import kept, parsed


class DeliverySpans(Hooks):
    """One span a send."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def webhook_sent(self, message: Any, outcome: str, seconds: float) -> None:
        parent = parsed(message.traceparent) if kept(message.traceparent) else None
        if parent is None:
            return
        ended = time.time_ns()
        span = self._tracer.start_span(
            "deliver webhook",
            parent,
            SpanKind.CLIENT,
            {
                "truthgpt.delivery": message.id,
                "truthgpt.attempt": message.attempt,
                "truthgpt.outcome": outcome,
            },
            start_time=ended - int(seconds * 1e9),
        )
        if outcome != "delivered":
            span.set_status(Status(StatusCode.ERROR, outcome))
        span.end(ended)
