"""Decides what becomes of an attempt that ended. Pure decisions over plain values."""

from typing import Literal

import msgspec

from shared.domain.breaker import Verdict
from shared.domain.errors import PROBLEMS
from shared.domain.states import MAX_CRASHES, JobState
from workers.host_protocol.messages import Doubt

BACKOFF_BASE = 0.5
BACKOFF_CAP = 30.0

Kind = Literal["finished", "failed", "canceled", "expired", "run_timeout", "crashed", "returned"]


DEAD = frozenset({"engine_error", "out_of_memory", "worker_crashed", "run_timeout"})
"""Codes of failures that are no fault of the input: such jobs are kept to be tried again."""


class End(msgspec.Struct, frozen=True):
    """The job ends in `state`; `code` and `message` say why it did not succeed."""

    state: JobState
    code: str = ""
    message: str = ""

    @property
    def dead(self) -> bool:
        """Whether the job belongs into the dead-letter list."""
        return self.code in DEAD


class Again(msgspec.Struct, frozen=True):
    """The job goes back to the queue after `delay` seconds, charged or not."""

    delay: float
    charge: Literal["failures", "crashes", ""]
    reason: str


Decision = End | Again


def decide(
    kind: Kind,
    *,
    code: str = "",
    message: str = "",
    failures: int = 0,
    crashes: int = 0,
    max_attempts: int = 3,
    draw: float = 1.0,
    breaker_open: bool = False,
) -> Decision:
    """Decide on an attempt's end.

    `failures` and `crashes` count what was charged before this attempt; `draw` in [0, 1) spreads the
    delay (full jitter, Brooker 2015). `breaker_open`: the model was known to fail before this attempt
    did, so the job is not to blame.
    """
    match kind:
        case "finished":
            return End(JobState.SUCCEEDED)
        case "canceled":
            return End(JobState.CANCELED, "job_canceled", "The job was canceled.")
        case "expired":
            detail = "The deadline passed before a result existed."
            return End(JobState.EXPIRED, "job_expired", detail)
        case "run_timeout":
            return End(JobState.FAILED, "run_timeout", "The job ran longer than its model allows.")
        case "returned":
            return Again(0.0, "", "worker_stopping")
        case "crashed":
            if crashes + 1 >= MAX_CRASHES:
                detail = f"Its workers died {MAX_CRASHES} times while it ran. {message}".rstrip()
                return End(JobState.FAILED, "worker_crashed", detail)
            return Again(draw * BACKOFF_BASE * 2**crashes, "crashes", "engine_lost")
        case "failed":
            if PROBLEMS[code].retryable and breaker_open:
                return Again(0.0, "", "breaker_open")
            if not PROBLEMS[code].retryable or failures + 1 >= max_attempts:
                return End(JobState.FAILED, code, message)
            delay = draw * min(BACKOFF_CAP, BACKOFF_BASE * 2**failures)
            return Again(delay, "failures", code)


def judge(kind: Kind, doubt: Doubt = "", *, repeated: bool = False) -> Verdict:
    """What an attempt's end says of its engine.

    Whatever the input, the caller or the clock did says nothing, and a crash is told once for all whom the
    host took down (`lost`), not by each of them. `doubt` is what the host found that a failure says. Where
    the job's earlier attempts failed too (`repeated`), it is no news and counts as a failed probe alone.
    """
    if kind == "finished":
        return "success"
    if kind == "failed" and doubt:
        return "collateral" if repeated or doubt == "known" else "failure"
    return "ignored"
