"""What the store's scripts promise, in plain Python: one model, one tenant, no Redis."""

from dataclasses import dataclass, field
from typing import Literal

from shared.states import JobState, may_move

CLASSES = ("high", "normal", "low")
MAX_CRASHES = 3
Priority = Literal["high", "normal", "low"]


@dataclass(eq=False)
class ModelJob:
    """`log` holds (id, kind); `overdue` and `lapsed`: its deadline, its lease has passed."""

    id: str
    priority: Priority
    arrival: int
    state: JobState = JobState.QUEUED
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    delayed: bool = False
    canceling: bool = False
    overdue: bool = False
    lapsed: bool = False
    log: list[tuple[str, str]] = field(default_factory=lambda: [("0-1", "status")])

    @property
    def next_seq(self) -> int:
        return int(self.log[-1][0].partition("-")[2]) + 1

    @property
    def waits(self) -> bool:
        """Whether it stands in its lane."""
        return self.state is JobState.QUEUED and not self.delayed

    def say(self, kind: str) -> None:
        self.log.append((f"{self.attempt}-{self.next_seq}", kind))

    def move(self, target: JobState) -> None:
        assert may_move(self.state, target)
        self.state = target

    def end(self, target: JobState) -> None:
        self.move(target)
        self.delayed = self.lapsed = False
        self.say("done")

    def back(self, *, delayed: bool = False) -> None:
        self.move(JobState.QUEUED)
        self.lapsed, self.delayed = False, delayed
        self.say("status")


class Model:
    """The queue of one model."""

    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}

    @property
    def lane(self) -> list[ModelJob]:
        """What waits, in the order in which it is handed out."""
        waiting = [job for job in self.jobs.values() if job.waits]
        return sorted(waiting, key=lambda job: (CLASSES.index(job.priority), job.arrival))

    @property
    def running(self) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.state is JobState.RUNNING]

    def create(self, job_id: str, priority: Priority) -> None:
        self.jobs[job_id] = ModelJob(job_id, priority, len(self.jobs))

    def claim(self, room: int) -> list[tuple[str, int]]:
        """The (id, attempt) pairs that a claim hands out; jobs past their deadline end on the way."""
        out: list[tuple[str, int]] = []
        for job in self.lane:
            if len(out) == room:
                break
            if job.overdue:
                job.end(JobState.EXPIRED)
                continue
            job.move(JobState.RUNNING)
            job.attempt += 1
            job.log.append((f"{job.attempt}-0", "status"))
            out.append((job.id, job.attempt))
        return out

    def append(self, job_id: str, attempt: int, seq: int) -> int:
        job = self._owned(job_id, attempt)
        if job is None:
            return 0
        if seq > job.next_seq:
            return -1
        if seq == job.next_seq:
            job.say("token")
        return 2 if job.canceling else 1

    def finish(self, job_id: str, attempt: int, target: JobState) -> int:
        job = self.jobs[job_id]
        if job.attempt == attempt and job.state is target:
            return 1
        if self._owned(job_id, attempt) is None:
            return 0
        job.end(target)
        return 1

    def requeue(self, job_id: str, attempt: int, charge: str, *, delayed: bool) -> bool:
        job = self._owned(job_id, attempt)
        if job is None:
            return False
        job.failures += charge == "failures"
        job.crashes += charge == "crashes"
        job.back(delayed=delayed)
        return True

    def cancel(self, job_id: str) -> JobState:
        job = self.jobs[job_id]
        if job.state is JobState.QUEUED:
            job.end(JobState.CANCELED)
        elif job.state is JobState.RUNNING:
            job.canceling = True
        return job.state

    def beat(self, job_id: str, attempt: int) -> int:
        job = self._owned(job_id, attempt)
        if job is None:
            return 0
        job.lapsed = False
        return 2 if job.canceling else 1

    def rescue(self) -> None:
        """Lapsed leases first, then retries that are due (all are), then deadlines."""
        for job in self.running:
            if job.lapsed:
                self._take_away(job)
        for job in self.jobs.values():
            job.delayed = False
        for job in self.jobs.values():
            if job.overdue and job.state is JobState.QUEUED:
                job.end(JobState.EXPIRED)

    def _take_away(self, job: ModelJob) -> None:
        if job.canceling:
            job.end(JobState.CANCELED)
        elif job.overdue:
            job.end(JobState.EXPIRED)
        else:
            job.crashes += 1
            if job.crashes >= MAX_CRASHES:
                job.end(JobState.FAILED)
            else:
                job.back()

    def _owned(self, job_id: str, attempt: int) -> ModelJob | None:
        job = self.jobs[job_id]
        return job if job.attempt == attempt and job.state is JobState.RUNNING else None
