"""Which traces are kept: decided once, where a trace begins, and followed by all that comes after."""

import threading
import time
from collections.abc import Callable, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    Decision,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes


class Allowance:
    """At most so many a second, with a second's worth in stock."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._left = max(1.0, per_second)
        self._at = clock()

    def take(self) -> bool:
        """Whether one more fits; it takes its place then."""
        with self._lock:
            now = self._clock()
            gained = (now - self._at) * self._per_second
            self._left, self._at = min(max(1.0, self._per_second), self._left + gained), now
            if self._left < 1:
                return False
            self._left -= 1
            return True


class HeadSampler(Sampler):
    """A span inside a trace follows its parent. A new trace is kept by `ratio`, within `allowance`.

    `trusting`: a parent in another process is one of ours and decides; else it may only ask. What
    links to kept spans is kept. A Redis command that nobody's request gave is no trace. Nothing is
    kept while `present` says that nobody would take it.
    """

    def __init__(
        self, ratio: float, allowance: Allowance, present: Callable[[], bool], *, trusting: bool
    ) -> None:
        self._ratio = TraceIdRatioBased(ratio)
        self._allowance = allowance
        self._present = present
        self._trusting = trusting

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,  # noqa: ARG002 - the interface's
    ) -> SamplingResult:
        parent = trace.get_current_span(parent_context).get_span_context()
        keep = self._keeps(parent, trace_id, name, kind, links)
        decision = Decision.RECORD_AND_SAMPLE if keep else Decision.DROP
        return SamplingResult(decision, attributes if keep else None, parent.trace_state)

    def _keeps(
        self,
        parent: trace.SpanContext,
        trace_id: int,
        name: str,
        kind: SpanKind | None,
        links: Sequence[Link] | None,
    ) -> bool:
        if parent.is_valid and not parent.is_remote:
            return parent.trace_flags.sampled
        if not self._present():
            return False
        if parent.is_valid:
            return parent.trace_flags.sampled and (self._trusting or self._allowance.take())
        if links:
            return any(link.context.trace_flags.sampled for link in links)
        if kind is SpanKind.CLIENT:
            return False
        wanted = self._ratio.should_sample(None, trace_id, name).decision
        return wanted is Decision.RECORD_AND_SAMPLE and self._allowance.take()

    def get_description(self) -> str:
        return f"HeadSampler({self._ratio.get_description()})"
