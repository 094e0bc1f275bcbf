"""What is written of an attempt that ended."""

import json

from shared.domain.records import Claim, Finish, Requeue, new_job_id
from shared.domain.states import JobState
from workers.execution.attempt import Attempt
from workers.execution.outcome import output_too_large, state_and_detail, write_of
from workers.execution.retries import Again, End
from workers.host_protocol.messages import Outcome


def attempt() -> Attempt:
    claim = Claim(new_job_id(), 2, "t", b"{}", 9.0, 1000, 1250, 1, 0, "", "", device_seconds=1.5)
    return Attempt.of(claim)


def test_usage_is_what_the_engine_counted_with_the_workers_own_times() -> None:
    one = attempt()
    one.batch_size = 7
    one.note_first_token()
    outcome = Outcome(one.ticket, "finished", b"{}", {"prompt_tokens": 3}, device_seconds=0.25)
    end = write_of(one, End(JobState.SUCCEEDED), outcome, "success")

    assert isinstance(end, Finish) and (end.state, end.output) == (JobState.SUCCEEDED, b"{}")
    usage = json.loads(end.usage)
    assert usage.pop("run_ms") >= 0 and usage.pop("first_token_ms") >= 250
    assert usage == {
        "prompt_tokens": 3,
        "batch_size": 7,
        "queue_ms": 250,
        "device_seconds": 1.75,
        "attempts": 2,
    }
    assert not end.error and not end.dead


def test_a_batch_size_that_the_engine_tells_stands() -> None:
    one = attempt()
    one.batch_size = 7
    outcome = Outcome(one.ticket, "finished", b"{}", {"batch_size": 2})
    end = write_of(one, End(JobState.SUCCEEDED), outcome, "success")
    assert isinstance(end, Finish) and json.loads(end.usage)["batch_size"] == 2


def test_an_error_says_whether_another_try_may_help() -> None:
    decision = End(JobState.FAILED, "engine_error", "It broke.")
    end = write_of(attempt(), decision, None, "failure")
    assert isinstance(end, Finish) and end.dead and end.verdict == "failure"
    assert json.loads(end.error) == {
        "code": "engine_error",
        "message": "It broke.",
        "retryable": True,
    }
    assert not json.loads(output_too_large(attempt().claim).error)["retryable"]


def test_an_attempt_that_is_given_back_carries_what_all_have_used() -> None:
    one = attempt()
    outcome = Outcome(one.ticket, "failed", device_seconds=0.5)
    decision = Again(3.0, "failures", "engine_error")
    end = write_of(one, decision, outcome, "ignored")
    assert end == Requeue(
        one.claim.id, 2, "engine_error", 3.0, "failures", device_seconds=2.0, verdict="ignored"
    )
    assert state_and_detail(decision) == ("retried", "engine_error")
