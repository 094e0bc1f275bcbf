"""The job store: the only writer of job state, and the queue itself.

Each transition is one Lua call (shared/store/lua), fenced by the attempt number and timed by Redis. Every
call may be repeated with the same arguments without a second effect, because clients retry.
Protocol and state machine: docs/job_lifecycle.md.
"""

from shared.domain.errors import JobNotFound, JobNotTerminal
from shared.domain.records import JOB_ID, Record, delivery_ids
from shared.domain.states import JobState
from shared.store.jobs.attempts import CLAIM_VALUES, Attempts
from shared.store.jobs.calls import ANY_TENANT, UNBOUNDED
from shared.store.jobs.creation import UNKNOWN_WAIT, Creation
from shared.store.jobs.rescue import Rescue

__all__ = ["ANY_TENANT", "CLAIM_VALUES", "UNBOUNDED", "UNKNOWN_WAIT", "JobStore"]


class JobStore(Creation, Attempts, Rescue):
    """Create, claim, append, finish, requeue, cancel, read. Safe to share between threads.

    `retention` and `lease` are in seconds.
    Every method raises `StoreUnavailable` when Redis does not answer.
    """

    def cancel(self, job_id: str, tenant: str = ANY_TENANT) -> JobState:
        """Cancel a waiting job, or ask the worker of a running one. Raises `JobNotFound`."""
        if not JOB_ID.fullmatch(job_id):
            raise JobNotFound(job_id)
        state = self._call("cancel", job_id, tenant, self.retention).decode()
        if state == "missing":
            raise JobNotFound(job_id)
        return JobState(state)

    def log_events(self, job_id: str) -> None:
        """Have the events of a job logged and published from now on, whose maker waits for its end alone.

        For who is about to follow them: until somebody asks, such a job (it has a `home`) may run without a
        log. Does nothing for any other.
        """
        self._call("log_events", job_id)

    def delete(self, job_id: str, tenant: str) -> Record:
        """Forget a terminal job and its events. Returns what it was.

        Raises `JobNotFound`, `JobNotTerminal`.
        """
        record = self.get(job_id, tenant)
        if not record.terminal:
            raise JobNotTerminal(f"The job is {record.state}. Cancel it first, or wait.")
        self._call("delete", job_id, tenant, *delivery_ids(job_id))
        return record

    def reset_breaker(self, model: str) -> None:
        """Close a model's breaker and those of its workers."""
        self._call("breaker_reset", model)
