"""What becomes of a send: decided without a clock or a network."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.webhooks.schedule import Schedule, Sent
from tests.conftest import examples

DAY = 24 * 3600.0


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_success(status: int) -> None:
    decision = Schedule().decide(Sent(status), failures=3, age=2 * DAY)
    assert (decision.outcome, decision.fault, decision.well) == ("delivered", "", True)


@pytest.mark.parametrize(
    ("status", "fault", "well"),
    [
        (301, "redirect", True),
        (307, "redirect", True),
        (400, "status", True),
        (404, "status", True),
        (429, "status", False),
        (500, "status", False),
        (503, "status", False),
    ],
)
def test_other_answers_are_tried_again(status: int, fault: str, well: bool) -> None:
    decision = Schedule().decide(Sent(status), failures=0, age=0)
    assert (decision.outcome, decision.fault, decision.well) == ("retry", fault, well)


@pytest.mark.parametrize(
    ("fault", "well"),
    [
        *((fault, False) for fault in ("dns", "connect", "tls", "timeout", "protocol")),
        *((fault, None) for fault in ("address", "unsigned")),
    ],
)
def test_no_answer_is_tried_again(fault: str, well: bool | None) -> None:
    decision = Schedule().decide(Sent(fault=fault), failures=0, age=0)  # type: ignore[arg-type]
    assert (decision.outcome, decision.fault, decision.well) == ("retry", fault, well)


def test_410_ends_it_for_good() -> None:
    assert Schedule().decide(Sent(410), failures=0, age=0).outcome == "dead"


def test_retry_after_is_honoured_within_bounds() -> None:
    schedule = Schedule(first=5, longest=600, span=DAY)

    def delay(asked: float, age: float = 0) -> float:
        return schedule.decide(Sent(503, retry_after=asked), failures=0, age=age).delay

    assert delay(120) == 120
    assert delay(10**9) == 600
    assert delay(0) <= 5
    assert delay(600, age=DAY - 10) == 10


@settings(max_examples=examples(30))
@given(
    first=st.floats(1, 60),
    longest=st.floats(1800, 4 * 3600),
    span=st.floats(3600, 3 * DAY),
    seconds=st.floats(0, 15),
)
def test_a_dead_receiver_is_tried_for_the_whole_span_and_then_given_up(
    first: float, longest: float, span: float, seconds: float
) -> None:
    schedule = Schedule(first, longest, span)
    age, attempts = 0.0, 0
    while True:
        age += seconds
        decision = schedule.decide(Sent(fault="timeout"), attempts, age)
        attempts += 1
        if decision.outcome == "dead":
            break
        assert 0 < decision.delay <= longest
        age += decision.delay

    assert span <= age < span + longest + 2 * seconds + 1
    assert attempts >= span / longest


def test_the_default_covers_a_day_in_few_attempts() -> None:
    schedule = Schedule()
    age, attempts = 0.0, 0
    while (decision := schedule.decide(Sent(500), attempts, age)).outcome == "retry":
        age, attempts = age + decision.delay, attempts + 1
    assert age >= DAY and 10 <= attempts <= 30


def test_pauses_grow_and_differ() -> None:
    schedule = Schedule(first=10, longest=1000)
    for failures, whole in enumerate((10, 30, 90, 270, 810, 1000, 1000)):
        pauses = {schedule.pause(failures) for _ in range(50)}
        assert len(pauses) > 10
        assert all(whole / 2 <= pause <= whole for pause in pauses)
