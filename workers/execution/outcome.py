"""Composes the write that ends an attempt, with usage and error as JSON."""

import msgspec

from shared.domain.breaker import Verdict
from shared.domain.errors import PROBLEMS
from shared.domain.records import Claim, Finish, Requeue
from shared.domain.states import JobState
from workers.execution.attempt import Attempt
from workers.execution.retries import Again, Decision, End
from workers.host_protocol.messages import Outcome

LOG_CUT = "log_cut"
"""Why an attempt is given back whose events Redis has forgotten."""

_encode = msgspec.json.Encoder().encode


def write_of(
    attempt: Attempt, decision: Decision, outcome: Outcome | None, verdict: Verdict
) -> Finish | Requeue:
    """What is written of an attempt that ended with `outcome`, None where the engine told none.

    `verdict` is what the model's breaker makes of it.
    """
    claim = attempt.claim
    device = claim.device_seconds + (outcome.device_seconds if outcome is not None else 0.0)
    if isinstance(decision, Again):
        return Requeue(
            claim.id,
            claim.attempt,
            decision.reason,
            decision.delay,
            decision.charge,
            device,
            verdict,
        )
    return Finish(
        claim.id,
        claim.attempt,
        decision.state,
        outcome.output if outcome is not None else b"",
        error_json(decision.code, decision.message) if decision.code else b"",
        usage_json(attempt, outcome, device),
        decision.dead,
        verdict,
    )


def state_and_detail(decision: Decision) -> tuple[str, str]:
    """An attempt's end for its observers: a `JobState` or `retried`, and why."""
    if isinstance(decision, End):
        return decision.state.value, decision.code
    return "retried", decision.reason


def usage_json(attempt: Attempt, outcome: Outcome | None, device_seconds: float) -> bytes:
    """A job's `usage`: what the engine counted, and the times that only its worker knows."""
    claim = attempt.claim
    counts = dict(outcome.usage) if outcome is not None else {}
    if attempt.batch_size:
        counts.setdefault("batch_size", attempt.batch_size)
    usage: dict[str, float] = {
        **counts,
        "queue_ms": claim.claimed_ms - claim.created_ms,
        "run_ms": round(attempt.seconds * 1000, 1),
        "device_seconds": round(device_seconds, 6),
        "attempts": claim.attempt,
    }
    if attempt.first_token is not None:
        usage["first_token_ms"] = round(attempt.first_token * 1000, 1)
    return _encode(usage)


def error_json(code: str, message: str) -> bytes:
    """A job's `error`."""
    return _encode({"code": code, "message": message, "retryable": PROBLEMS[code].retryable})


def log_cut(claim: Claim) -> Requeue:
    """An attempt given back because Redis has lost the end of the job's log."""
    return Requeue(claim.id, claim.attempt, LOG_CUT, device_seconds=claim.device_seconds)


def output_too_large(claim: Claim) -> Finish:
    """The end of a job whose output Redis does not take, and never will."""
    error = error_json("output_too_large", "Redis does not take an output as large as this job's.")
    return Finish(claim.id, claim.attempt, JobState.FAILED, error=error)
