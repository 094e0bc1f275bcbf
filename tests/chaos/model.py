"""What the store's scripts promise, in plain Python: one model, one tenant, one shared request, no Redis."""

from dataclasses import dataclass, field
from typing import Literal

from shared.domain.states import CLASSES, MAX_CRASHES, JobState, may_move

Priority = Literal["high", "normal", "low"]


@dataclass(eq=False)
class Flight:
    """Jobs that ask the same as one that is at work on it."""

    followers: list["ModelJob"] = field(default_factory=list)

    @property
    def first(self) -> "ModelJob":
        return min(self.followers, key=lambda job: (job.rank, job.arrival))


@dataclass(eq=False)
class ModelJob:
    """`log` holds (id, kind); `overdue` and `lapsed`: its deadline, its lease has passed.

    `text` is what it has streamed. `shared`: it asks what all shared jobs ask; it then `leads` a flight,
    `follows` one, or runs by itself.
    """

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
    text: str = ""
    shared: bool = False
    leads: Flight | None = None
    follows: Flight | None = None
    cached: bool = False
    log: list[tuple[str, str]] = field(default_factory=lambda: [("0-1", "status")])

    @property
    def rank(self) -> int:
        return CLASSES.index(self.priority)

    @property
    def next_seq(self) -> int:
        return int(self.log[-1][0].partition("-")[2]) + 1

    @property
    def waits(self) -> bool:
        """Whether it stands in its lane."""
        return self.state is JobState.QUEUED and not self.delayed and self.follows is None

    def say(self, kind: str) -> None:
        self.log.append((f"{self.attempt}-{self.next_seq}", kind))

    def stream(self, text: str) -> None:
        self.say("token")
        self.text += text

    def alone(self) -> None:
        """Follow no longer; what it was told counts as an attempt."""
        self.follows = None
        if self.next_seq > 2:
            self.attempt = 1

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
    """The queue of one model. `keeps`: results are kept for those who ask the same later."""

    def __init__(self, *, keeps: bool = True) -> None:
        self.keeps = keeps
        self.jobs: dict[str, ModelJob] = {}
        self.result: str | None = None
        self.open: tuple[Flight, ModelJob] | None = None
        """The flight that new jobs join, and its leader."""

    @property
    def lane(self) -> list[ModelJob]:
        """What waits, in the order in which it is handed out."""
        waiting = [job for job in self.jobs.values() if job.waits]
        return sorted(waiting, key=lambda job: (job.rank, job.arrival))

    @property
    def running(self) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.state is JobState.RUNNING]

    def create(self, job_id: str, priority: Priority, *, shared: bool = False) -> str:
        """How it came in: `cached`, `follows` or `created`."""
        job = self.jobs[job_id] = ModelJob(job_id, priority, len(self.jobs), shared=shared)
        if not shared:
            return "created"
        if self.result is not None:
            job.cached = True
            job.stream(self.result)
            job.end(JobState.SUCCEEDED)
            return "cached"
        if self.open is not None and self._takes(self.open[1], job):
            flight, leader = self.open
            if leader.text:
                job.stream(leader.text)
            flight.followers.append(job)
            job.follows = flight
            return "follows"
        job.leads = Flight()
        self.open = job.leads, job
        return "created"

    @staticmethod
    def _takes(leader: ModelJob, job: ModelJob) -> bool:
        if leader.canceling or leader.overdue:
            return False
        queued = leader.state is JobState.QUEUED
        return leader.state is JobState.RUNNING or (queued and leader.rank <= job.rank)

    def claim(self, room: int) -> list[tuple[str, int]]:
        """The (id, attempt) pairs that a claim hands out; jobs past their deadline end on the way."""
        out: list[tuple[str, int]] = []
        while len(out) < room and (lane := self.lane):
            job = lane[0]
            if job.overdue:
                self._end(job, JobState.EXPIRED)
                continue
            job.move(JobState.RUNNING)
            job.attempt += 1
            job.log.append((f"{job.attempt}-0", "status"))
            out.append((job.id, job.attempt))
        return out

    def append(self, job_id: str, attempt: int, seq: int, text: str) -> int:
        job = self._owned(job_id, attempt)
        if job is None:
            return 0
        if seq > job.next_seq:
            return -1
        if seq == job.next_seq:
            for heard in (job, *(job.leads.followers if job.leads else ())):
                heard.stream(text)
        return 2 if job.canceling else 1

    def finish(self, job_id: str, attempt: int, target: JobState, result: str) -> int:
        job = self.jobs[job_id]
        if job.attempt == attempt and job.state is target:
            return 1
        if self._owned(job_id, attempt) is None:
            return 0
        self._end(job, target, result)
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
            self._end(job, JobState.CANCELED)
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
        for job in sorted(self.running, key=lambda job: job.id):
            if job.lapsed:
                self._take_away(job)
        for job in self.jobs.values():
            job.delayed = False
        for job in sorted(self.jobs.values(), key=lambda job: job.id):
            if job.overdue and job.state is JobState.QUEUED:
                self._end(job, JobState.EXPIRED)

    def _take_away(self, job: ModelJob) -> None:
        if job.canceling:
            self._end(job, JobState.CANCELED)
        elif job.overdue:
            self._end(job, JobState.EXPIRED)
        else:
            job.crashes += 1
            if job.crashes >= MAX_CRASHES:
                self._end(job, JobState.FAILED)
            else:
                job.back()

    def _end(self, job: ModelJob, target: JobState, result: str = "") -> None:
        """End a job; its followers have its result, go on without it, or wait for the first of them."""
        job.end(target)
        if job.follows is not None:
            job.follows.followers.remove(job)
            job.follows = None
            return
        if self.keeps and job.shared and target is JobState.SUCCEEDED:
            self.result = result
        flight = job.leads
        if flight is None:
            return
        if self.open == (flight, job):
            self.open = None
        if target is JobState.SUCCEEDED:
            for other in flight.followers:
                other.follows, other.cached = None, True
                other.end(target)
            flight.followers = []
        elif target is JobState.FAILED:
            for other in flight.followers:
                other.alone()
            flight.followers = []
        elif flight.followers:
            heir = flight.first
            flight.followers.remove(heir)
            heir.alone()
            heir.leads = flight
            if self.open is None or self.open[0] is flight:
                self.open = flight, heir

    def _owned(self, job_id: str, attempt: int) -> ModelJob | None:
        job = self.jobs[job_id]
        return job if job.attempt == attempt and job.state is JobState.RUNNING else None
