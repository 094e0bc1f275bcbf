"""The table of decisions."""

import pytest

from shared.domain.errors import PROBLEMS
from shared.domain.states import JobState
from workers.execution.retries import BACKOFF_CAP, Again, Decision, End, Kind, decide, judge
from workers.host_protocol.messages import Doubt


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("finished", {}, End(JobState.SUCCEEDED)),
        ("returned", {}, Again(0.0, "", "worker_stopping")),
        ("failed", {"code": "engine_error"}, Again(0.5, "failures", "engine_error")),
        (
            "failed",
            {"code": "engine_error", "failures": 1},
            Again(1.0, "failures", "engine_error"),
        ),
        ("crashed", {"crashes": 1}, Again(1.0, "crashes", "engine_lost")),
    ],
)
def test_what_is_tried_again(kind: Kind, given: dict[str, object], expected: Decision) -> None:
    assert decide(kind, **given) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "given", "state", "code"),
    [
        ("canceled", {}, JobState.CANCELED, "job_canceled"),
        ("expired", {}, JobState.EXPIRED, "job_expired"),
        ("run_timeout", {}, JobState.FAILED, "run_timeout"),
        ("failed", {"code": "prompt_too_long"}, JobState.FAILED, "prompt_too_long"),
        ("failed", {"code": "engine_error", "failures": 2}, JobState.FAILED, "engine_error"),
        ("crashed", {"crashes": 2}, JobState.FAILED, "worker_crashed"),
    ],
)
def test_what_ends(kind: Kind, given: dict[str, object], state: JobState, code: str) -> None:
    decision = decide(kind, **given)  # type: ignore[arg-type]
    assert isinstance(decision, End)
    assert (decision.state, decision.code) == (state, code)
    assert decision.code in PROBLEMS and decision.message is not None


def test_the_delay_is_spread_and_bounded() -> None:
    far = decide("failed", code="engine_error", failures=50, max_attempts=100)
    none = decide("failed", code="engine_error", failures=50, max_attempts=100, draw=0.0)
    assert isinstance(far, Again) and far.delay == BACKOFF_CAP
    assert isinstance(none, Again) and none.delay == 0.0


def test_while_the_breaker_is_open_no_failure_is_charged() -> None:
    spared = decide("failed", code="engine_error", failures=2, breaker_open=True)
    assert spared == Again(0.0, "", "breaker_open")
    input_fault = decide("failed", code="poison_input", breaker_open=True)
    assert isinstance(input_fault, End) and input_fault.code == "poison_input"
    crash = decide("crashed", crashes=2, breaker_open=True)
    assert isinstance(crash, End), "a job that kills its host must come to an end"


@pytest.mark.parametrize(
    ("kind", "doubt", "repeated", "verdict"),
    [
        ("finished", "", False, "success"),
        ("failed", "new", False, "failure"),
        ("failed", "new", True, "collateral"),
        ("failed", "known", False, "collateral"),
        ("failed", "", False, "ignored"),
        ("failed", "", True, "ignored"),
        ("canceled", "", False, "ignored"),
        ("expired", "", False, "ignored"),
        ("run_timeout", "", False, "ignored"),
        ("returned", "", False, "ignored"),
        ("crashed", "", False, "ignored"),
    ],
)
def test_what_an_end_says_of_the_engine(
    kind: Kind, doubt: Doubt, repeated: bool, verdict: str
) -> None:
    assert judge(kind, doubt, repeated=repeated) == verdict
