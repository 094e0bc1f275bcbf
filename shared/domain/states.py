"""The life of a job: its states and the moves between them. Pure; the scripts get the same table."""

from enum import StrEnum


class JobState(StrEnum):
    """A job's `status` on the wire and in the store."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


CLASSES = ("high", "normal", "low")
"""The priorities of waiting jobs, the most urgent first."""
MAX_CRASHES = 3
"""How often a job's workers may die while it runs before it fails."""

TERMINAL = frozenset(
    {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED},
)

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    # From queued to succeeded: with the result of another job that asked the same.
    JobState.QUEUED: frozenset(
        {JobState.RUNNING, JobState.SUCCEEDED, JobState.CANCELED, JobState.EXPIRED}
    ),
    JobState.RUNNING: frozenset({JobState.QUEUED, *TERMINAL}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELED: frozenset(),
    JobState.EXPIRED: frozenset(),
}


def may_move(origin: JobState, target: JobState) -> bool:
    """Whether a job in `origin` may become `target`."""
    return target in TRANSITIONS[origin]


def lua_moves() -> str:
    """All moves as one word each, ` queued>running queued>…`, for the scripts: a table would be made anew at
    each call.
    """
    moves = sorted(f"{origin}>{target}" for origin in TRANSITIONS for target in TRANSITIONS[origin])
    return f" {' '.join(moves)} "
