"""A worker's part of jobs' traces, made of what the hooks say; spans a phase and a batch, never a token.

An attempt is a span in the trace of the request that made its job, whichever worker runs it. Claims and
runs of engine steps serve many jobs: each is a trace of its own, linked with the attempts in it.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer

from shared.hooks import Hooks
from shared.telemetry.traces.trace_context import kept, parsed

MOST_HELD = 4096
"""Attempts traced at a time; more are not looked at."""
STEPS_NS = 1_000_000_000
"""Longest time that one `steps` span sums up."""


@dataclass(slots=True)
class _Attempt:
    """A traced attempt and when its phases began (ns since 1970), 0 before they do."""

    span: Span
    claimed: int
    admitted: int = 0
    spoke: int = 0
    done: int = 0
    tokens: int = 0


@dataclass(slots=True)
class _Steps:
    """Engine steps in a row that traced attempts took part in."""

    began: int
    count: int = 0
    seconds: float = 0.0
    tokens: int = 0
    batch_size: int = 0
    attempts: dict[str, Span] = field(default_factory=dict)


class JobSpans(Hooks):
    """Traces one model's jobs. Where no job in hand is traced a step costs one look at a dictionary."""

    def __init__(self, tracer: Tracer, model: str) -> None:
        self._tracer = tracer
        self._model = model
        self._lock = threading.Lock()
        self._held: dict[str, _Attempt] = {}
        self._steps: _Steps | None = None
        """Touched by the engine client's thread alone."""

    def batch_claimed(self, model: str, claims: Sequence[Any], seconds: float) -> None:
        now = time.time_ns()
        began = now - int(seconds * 1e9)
        spans = [span for claim in claims if (span := self._begin(claim, now)) is not None]
        if not spans:
            return
        batch = self._tracer.start_span(
            f"claim {model}",
            Context(),
            attributes={"truthgpt.model": model, "truthgpt.jobs": len(claims)},
            links=[Link(span.get_span_context()) for span in spans],
            start_time=began,
        )
        for span in spans:
            span.add_link(batch.get_span_context(), {"truthgpt.link": "claim"})
        batch.end(now)

    def _begin(self, claim: Any, now: int) -> Span | None:
        if not kept(claim.traceparent) or len(self._held) >= MOST_HELD:
            return None
        parent = parsed(claim.traceparent)
        if parent is None:
            return None
        span = self._tracer.start_span(
            f"attempt {self._model}",
            parent,
            SpanKind.CONSUMER,
            {
                "truthgpt.job": claim.id,
                "truthgpt.attempt": claim.attempt,
                "truthgpt.tenant": claim.tenant,
                "truthgpt.model": self._model,
                "truthgpt.request.id": claim.request_id,
            },
            start_time=now,
        )
        if not span.is_recording():
            return None
        if claim.attempt == 1:
            waited = (claim.claimed_ms - claim.created_ms) * 1_000_000
            self._phase("queue", parent, now - waited, now)
        with self._lock:
            self._held[_ticket(claim)] = _Attempt(span, now)
        return span

    def job_admitted(self, claim: Any) -> None:
        if (attempt := self._held.get(_ticket(claim))) is not None:
            attempt.admitted = time.time_ns()

    def engine_stepped(self, model: str, step: Any) -> None:  # noqa: ARG002 - the hook's signature
        if not self._held and self._steps is None:
            return
        now = time.time_ns()
        taking_part: dict[str, Span] = {}
        for piece in step.pieces:
            if (attempt := self._held.get(piece.ticket)) is not None:
                attempt.spoke = attempt.spoke or now
                attempt.tokens += len(piece.token_ids)
                taking_part[piece.ticket] = attempt.span
        ended = False
        for outcome in step.outcomes:
            if (attempt := self._held.get(outcome.ticket)) is not None:
                attempt.done = now
                taking_part[outcome.ticket] = attempt.span
                ended = True
        if taking_part:
            self._add(step, taking_part, now)
        if self._steps is not None and (
            ended or not taking_part or now - self._steps.began >= STEPS_NS
        ):
            self._flush(now)

    def _add(self, step: Any, taking_part: dict[str, Span], now: int) -> None:
        if self._steps is None:
            self._steps = _Steps(now - int(step.step_ms * 1e6))
        steps = self._steps
        steps.count += 1
        steps.seconds += step.step_ms / 1000
        steps.tokens += sum(len(piece.token_ids) for piece in step.pieces)
        steps.batch_size = max(steps.batch_size, step.batch_size)
        steps.attempts |= taking_part

    def _flush(self, now: int) -> None:
        steps, self._steps = self._steps, None
        assert steps is not None
        self._tracer.start_span(
            f"steps {self._model}",
            Context(),
            attributes={
                "truthgpt.model": self._model,
                "truthgpt.steps": steps.count,
                "truthgpt.step_seconds": round(steps.seconds, 6),
                "truthgpt.tokens": steps.tokens,
                "truthgpt.batch_size": steps.batch_size,
            },
            links=[Link(span.get_span_context()) for span in steps.attempts.values()],
            start_time=steps.began,
        ).end(now)

    def job_ended(self, claim: Any, state: str, seconds: float, detail: str) -> None:  # noqa: ARG002
        with self._lock:
            attempt = self._held.pop(_ticket(claim), None)
        if attempt is None:
            return
        now = time.time_ns()
        self._phases(attempt, now)
        span = attempt.span
        span.set_attribute("truthgpt.state", state)
        if attempt.tokens:
            span.set_attribute("truthgpt.tokens", attempt.tokens)
        if state != "succeeded":
            span.set_attribute("truthgpt.reason", detail)
        if state in ("failed", "fenced"):
            span.set_status(Status(StatusCode.ERROR, detail or state))
        span.end(now)

    def _phases(self, attempt: _Attempt, now: int) -> None:
        """What of an attempt is known now that it is over."""
        inside = trace.set_span_in_context(attempt.span, Context())
        if not attempt.admitted:
            return
        self._phase("admit", inside, attempt.claimed, attempt.admitted)
        done = attempt.done or now
        if attempt.spoke:
            self._phase("prefill", inside, attempt.admitted, attempt.spoke)
            self._phase("decode", inside, attempt.spoke, done)
        else:
            self._phase("run", inside, attempt.admitted, done)
        if attempt.done:
            self._phase("append", inside, attempt.done, now)

    def _phase(self, name: str, parent: Context, began: int, ended: int) -> None:
        self._tracer.start_span(
            name, parent, attributes={"truthgpt.model": self._model}, start_time=began
        ).end(max(began, ended))


def _ticket(claim: Any) -> str:
    return f"{claim.id}/{claim.attempt}"
