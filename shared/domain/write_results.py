"""What became of what a worker wrote to the job store: its writes, leases and rescues."""

from dataclasses import dataclass
from enum import IntEnum


class WriteResult(IntEnum):
    """What became of a write. The scripts get the same numbers by these names (shared/store/scripts.py)."""

    MISSING_EVENT = -1
    """Refused: an event before it was never written."""
    FENCED = 0
    """Another attempt owns the job now, or nobody."""
    DONE = 1
    """Now, or by an earlier call with the same arguments."""
    CANCEL_REQUESTED = 2
    """Done, and somebody wants the job canceled."""
    SHOULD_NOTIFY = 3
    """The attempt was given back, and a doorbell is wanted."""
    RETRY_DELAYED = 4
    """The attempt was given back, and its retry waits for the model's retry budget."""


class LeaseResult(IntEnum):
    """What became of the renewal of a lease. The scripts get the same numbers by these names."""

    LOST = 0
    RENEWED = 1
    CANCEL_REQUESTED = 2
    """Renewed, and somebody wants the job canceled."""


@dataclass(frozen=True, slots=True)
class Committed:
    """One result a write; `change` is what the breaker was and is, when it changed."""

    results: list[WriteResult]
    change: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat learned: how many jobs wait, and one result a lease."""

    waiting: int
    results: list[LeaseResult]


@dataclass(frozen=True, slots=True)
class Rescued:
    """What one rescue of a model put right."""

    requeued: int
    failed: int
    due: int
    expired: int
    ring: bool
