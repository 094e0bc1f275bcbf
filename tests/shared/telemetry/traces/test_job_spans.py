"""Spans of jobs as the hooks tell their story: phases, links, ends, and nothing for what is not kept."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import context
from shared.domain.records import Claim
from shared.telemetry.traces import job_spans
from shared.telemetry.traces.delivery_spans import DeliverySpans
from shared.telemetry.traces.job_spans import JobSpans
from shared.telemetry.traces.sampling import Allowance, HeadSampler
from workers.host_protocol.messages import Outcome, PieceOut, Stepped

PARENT = "b2" * 8


def claim(name: str, attempt: int = 1, *, kept: bool = True, trace: str = "") -> Claim:
    return Claim(
        id=f"job_{name}",
        attempt=attempt,
        tenant="acme",
        request=b"{}",
        deadline=60.0,
        created_ms=1000,
        claimed_ms=1250,
        failures=0,
        crashes=0,
        traceparent=f"00-{trace or name * 32}-{PARENT}-0{int(kept)}",
        request_id="req_1",
    )


def stepped(*tickets: str, ended: tuple[str, ...] = (), text: str = "x") -> Stepped:
    pieces = [PieceOut(ticket, text, (1, 2)) for ticket in tickets]
    return Stepped(pieces, [Outcome(ticket, "finished") for ticket in ended], len(tickets), 2.0)


class Traced:
    """An observer, and the spans that came of what it saw."""

    def __init__(self) -> None:
        self.memory = InMemorySpanExporter()
        sampler = HeadSampler(1.0, Allowance(10**6), lambda: True, trusting=True)
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.memory))
        self.spans = JobSpans(self.provider.get_tracer("test"), "echo")

    def run(self, *claims: Claim) -> None:
        self.spans.batch_claimed("echo", claims, 0.001)
        for one in claims:
            self.spans.job_admitted(one)

    def all(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self.memory.get_finished_spans() if span.name.startswith(name)]

    def one(self, name: str) -> Any:
        [span] = self.all(name)
        return span


@pytest.fixture
def traced() -> Traced:
    return Traced()


def test_a_text_has_all_phases_in_order_and_without_gaps(traced: Traced) -> None:
    job = claim("a")
    traced.run(job)
    traced.spans.engine_stepped("echo", stepped("job_a/1"))
    traced.spans.engine_stepped("echo", stepped("job_a/1", ended=("job_a/1",)))
    traced.spans.job_ended(job, "succeeded", 0.1, "")

    attempt = traced.one("attempt")
    names = ("admit", "prefill", "decode", "append")
    phases = [traced.one(name) for name in names]
    assert all(phase.parent.span_id == attempt.context.span_id for phase in phases)
    edges = [attempt.start_time, *(phase.end_time for phase in phases)]
    assert [phase.start_time for phase in phases] == edges[:-1] and edges[-1] == attempt.end_time
    assert f"{attempt.parent.span_id:016x}" == PARENT
    assert f"{attempt.context.trace_id:032x}" == "a" * 32
    queue = traced.one("queue")
    assert queue.end_time - queue.start_time == 250_000_000
    assert attempt.attributes["truthgpt.tokens"] == 4 and attempt.status.is_ok is True


def test_what_streams_nothing_just_runs(traced: Traced) -> None:
    job = claim("a")
    traced.run(job)
    traced.spans.engine_stepped("echo", stepped(ended=("job_a/1",)))
    traced.spans.job_ended(job, "succeeded", 0.1, "")
    assert [span.name for span in traced.all()][-5:] == [
        "steps echo",
        "admit",
        "run",
        "append",
        "attempt echo",
    ]


def test_claims_and_steps_link_to_all_jobs_in_them(traced: Traced) -> None:
    jobs = [claim(name) for name in "abc"]
    traced.run(*jobs)
    traced.spans.engine_stepped("echo", stepped("job_a/1", "job_b/1"))
    traced.spans.engine_stepped("echo", stepped("job_c/1", ended=("job_a/1",)))
    for job in jobs:
        traced.spans.job_ended(job, "succeeded", 0.1, "")

    attempts = {span.context.span_id: span for span in traced.all("attempt")}
    batch, steps = traced.one("claim"), traced.one("steps")
    for many in (batch, steps):
        assert {link.context.span_id for link in many.links} == set(attempts)
        assert many.parent is None
    assert all(span.links[0].context == batch.context for span in attempts.values())
    assert steps.attributes["truthgpt.steps"] == 2 and steps.attributes["truthgpt.tokens"] == 6
    assert steps.attributes["truthgpt.batch_size"] == 2


def test_steps_are_summed_up_and_not_told_one_by_one(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_spans, "STEPS_NS", 10**15)
    traced.run(claim("a"))
    for _ in range(1000):
        traced.spans.engine_stepped("echo", stepped("job_a/1"))
    assert traced.all("steps") == []
    traced.spans.engine_stepped("echo", stepped("job_a/1", ended=("job_a/1",)))
    assert traced.one("steps").attributes["truthgpt.steps"] == 1001

    monkeypatch.setattr(job_spans, "STEPS_NS", 0)
    traced.run(claim("b"))
    traced.spans.engine_stepped("echo", stepped("job_b/1"))
    assert len(traced.all("steps")) == 2


@pytest.mark.parametrize("state", ["failed", "fenced", "retried", "canceled"])
def test_an_end_says_how_and_why(traced: Traced, state: str) -> None:
    job = claim("a", attempt=2)
    traced.run(job)
    traced.spans.job_ended(job, state, 0.1, "engine_error")

    attempt = traced.one("attempt")
    assert attempt.attributes["truthgpt.state"] == state
    assert attempt.attributes["truthgpt.reason"] == "engine_error"
    assert attempt.attributes["truthgpt.attempt"] == 2
    assert (not attempt.status.is_ok) is (state in ("failed", "fenced"))
    assert traced.all("queue") == [], "the wait of a later attempt is not known"


def test_one_that_never_reached_the_engine_has_no_phases(traced: Traced) -> None:
    job = claim("a")
    traced.spans.batch_claimed("echo", [job], 0.0)
    traced.spans.job_ended(job, "retried", 0.1, "worker_stopping")
    assert [span.name for span in traced.all()] == ["queue", "claim echo", "attempt echo"]


def test_what_is_not_kept_makes_no_span(traced: Traced) -> None:
    jobs = [claim("a", kept=False), claim("b", trace="none")]
    jobs[1] = Claim(
        **{name: getattr(jobs[1], name) for name in Claim.__slots__} | {"traceparent": ""}
    )
    traced.run(*jobs)
    for job in jobs:
        traced.spans.engine_stepped("echo", stepped(f"{job.id}/1", ended=(f"{job.id}/1",)))
        traced.spans.job_ended(job, "succeeded", 0.1, "")
    assert traced.all() == []


def test_no_more_attempts_are_held_than_the_bound(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_spans, "MOST_HELD", 2)
    jobs = [claim(name) for name in "abcd"]
    traced.run(*jobs)
    for job in jobs:
        traced.spans.job_ended(job, "succeeded", 0.1, "")
    assert len(traced.all("attempt")) == 2


def test_whatever_the_order_every_kept_attempt_ends_once(traced: Traced) -> None:
    draw = random.Random(7)
    jobs = {f"job_{n:x}/1": claim(f"{n:x}") for n in range(1, 16)}
    pending = dict(jobs)
    acts: list[Callable[[str], None]] = [
        lambda ticket: traced.spans.job_admitted(jobs[ticket]),
        lambda ticket: traced.spans.engine_stepped("echo", stepped(ticket)),
        lambda ticket: traced.spans.engine_stepped("echo", stepped(ended=(ticket,))),
        lambda ticket: (
            traced.spans.batch_claimed("echo", [pending.pop(ticket)], 0.0)
            if ticket in pending
            else None
        ),
    ]
    for _ in range(500):
        draw.choice(acts)(draw.choice(list(jobs)))
    for job in jobs.values():
        traced.spans.job_ended(job, "succeeded", 0.1, "")
        traced.spans.job_ended(job, "fenced", 0.1, "")

    assert len(traced.all("attempt")) == len(jobs) - len(pending)
    assert all(span.end_time >= span.start_time for span in traced.all())
    assert not traced.spans._held


@pytest.mark.parametrize(("outcome", "well"), [("delivered", True), ("retry", False)])
def test_a_delivery_is_the_last_span_of_its_job(traced: Traced, outcome: str, well: bool) -> None:
    spans = DeliverySpans(traced.provider.get_tracer("test"))
    with context.binding(delivery="msg_1", traceparent=f"00-{'a' * 32}-{PARENT}-01"):
        spans.webhook_delivered("echo", outcome, 0.5, 3)
    with context.binding(delivery="msg_2", traceparent=f"00-{'a' * 32}-{PARENT}-00"):
        spans.webhook_delivered("echo", outcome, 0.5, 3)

    sent = traced.one("deliver")
    assert f"{sent.context.trace_id:032x}" == "a" * 32 and f"{sent.parent.span_id:016x}" == PARENT
    assert sent.end_time - sent.start_time == 500_000_000
    assert sent.attributes["truthgpt.outcome"] == outcome and sent.status.is_ok is well
    assert sent.attributes["truthgpt.delivery"] == "msg_1"
