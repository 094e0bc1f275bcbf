"""One attempt at a job in this worker's hands: what it has streamed, and how it ended."""

import time
from collections import deque

import msgspec

from shared.domain.records import Append, Claim

REMEMBERED = 1024
"""Events of an attempt that are kept, should Redis forget them after it has answered."""


class AttemptEnd(msgspec.Struct, frozen=True):
    """How an attempt ended, as far as its worker knows.

    `state` is a `JobState`, `retried` or `fenced`, `detail` says why, `seconds` how long the attempt took.
    """

    state: str
    detail: str
    seconds: float


class Attempt(msgspec.Struct, eq=False):
    """A claimed attempt. `began` is by `time.monotonic`; `seq` is what its next event gets, `indexes` by
    choice how many tokens of that text came before it.

    `resumed`: earlier attempts have streamed already. `first_token`: seconds from the job's creation to
    the first piece of its output. `written`: its last events, as they were written. `fenced`: it is no
    longer this worker's, so nothing of it may be written.
    """

    claim: Claim
    ticket: str
    began: float
    seq: int = 1
    indexes: dict[int, int] = {}
    batch_size: int = 0
    resumed: bool = False
    first_token: float | None = None
    end: AttemptEnd | None = None
    fenced: bool = False
    written: deque[Append] = msgspec.field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @classmethod
    def of(cls, claim: Claim) -> "Attempt":
        """The attempt that begins now with a claim."""
        return cls(claim, ticket_of(claim.id, claim.attempt), time.monotonic())

    @property
    def seconds(self) -> float:
        """How long the attempt has been in this worker's hands."""
        return time.monotonic() - self.began

    @property
    def seconds_left(self) -> float:
        """Until the job's deadline; 0 once that has passed."""
        return max(0.0, self.claim.deadline - self.seconds)

    def note_first_token(self) -> float:
        """The attempt's first piece has come. Returns the seconds from the job's creation to it."""
        queued = (self.claim.claimed_ms - self.claim.created_ms) / 1000
        self.first_token = queued + self.seconds
        return self.first_token

    def ends(self, state: str, detail: str) -> AttemptEnd:
        """Note how the attempt ended."""
        self.end = AttemptEnd(state, detail, self.seconds)
        return self.end


def ticket_of(job_id: str, attempt: int) -> str:
    """The name of an attempt between worker and engine host."""
    return f"{job_id}/{attempt}"
