"""Which traces are kept."""

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from shared.telemetry.traces.sampling import Allowance, HeadSampler


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def span_context(*, kept: bool, remote: bool = False) -> SpanContext:
    return SpanContext(1, 2, is_remote=remote, trace_flags=TraceFlags(int(kept)))


def inside(*, kept: bool, remote: bool) -> Context:
    span = NonRecordingSpan(span_context(kept=kept, remote=remote))
    return trace.set_span_in_context(span, Context())


def sampler(**options: Any) -> HeadSampler:
    present = options.pop("present", True)
    chosen = {"ratio": 1.0, "allowance": Allowance(1000), "trusting": False, **options}
    return HeadSampler(present=lambda: present, **chosen)


def keeps(
    by: HeadSampler, parent: Context | None = None, *, trace_id: int = 1, **options: Any
) -> bool:
    result = by.should_sample(parent or Context(), trace_id, "x", **options)
    return result.decision is Decision.RECORD_AND_SAMPLE


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("remote", [True, False])
def test_a_parent_decides(kept: bool, remote: bool) -> None:
    assert keeps(sampler(ratio=0.0), inside(kept=kept, remote=remote)) is kept


def test_new_traces_are_kept_by_ratio() -> None:
    low, high = 1, 2**64 - 1
    assert keeps(sampler(ratio=0.5), trace_id=low) and not keeps(sampler(ratio=0.5), trace_id=high)


def test_a_caller_may_ask_for_no_more_than_the_allowance() -> None:
    asked = inside(kept=True, remote=True)
    entry, ours = sampler(allowance=Allowance(1)), sampler(allowance=Allowance(1), trusting=True)

    assert [keeps(entry, asked) for _ in range(3)] == [True, False, False]
    assert [keeps(ours, asked) for _ in range(3)] == [True, True, True]


def test_what_links_to_something_kept_is_kept() -> None:
    links = [Link(span_context(kept=False)), Link(span_context(kept=True))]
    assert keeps(sampler(ratio=0.0), links=links)
    assert not keeps(sampler(), links=links[:1])


def test_a_command_that_nobody_gave_is_no_trace() -> None:
    assert not keeps(sampler(), kind=SpanKind.CLIENT)
    assert keeps(sampler(), inside(kept=True, remote=False), kind=SpanKind.CLIENT)


def test_nothing_begins_while_nobody_would_take_it() -> None:
    away = sampler(present=False, trusting=True)
    assert not keeps(away) and not keeps(away, inside(kept=True, remote=True))
    assert not keeps(away, links=[Link(span_context(kept=True))])
    assert keeps(away, inside(kept=True, remote=False)), "what has begun is whole"


def test_the_allowance_grows_with_time_and_not_without_bound() -> None:
    clock = Clock()
    allowance = Allowance(2, clock)
    assert [allowance.take() for _ in range(3)] == [True, True, False]
    clock.now = 0.5
    assert [allowance.take() for _ in range(2)] == [True, False]
    clock.now = 100
    assert [allowance.take() for _ in range(3)] == [True, True, False]


def test_less_than_one_a_second_still_comes_to_one_in_the_end() -> None:
    clock = Clock()
    allowance = Allowance(0.1, clock)
    assert [allowance.take() for _ in range(2)] == [True, False]
    clock.now = 10.01
    assert [allowance.take() for _ in range(2)] == [True, False]
