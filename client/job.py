"""A job as a client holds it: a snapshot, with the calls that follow from it."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from client.errors import ClientError
from client.event import Event

TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})
LONGEST_HOLD = 30
PATIENCE = 0.5


class JobCalls(Protocol):
    """The calls that a job makes of its own; `Client` has them."""

    def get(self, job_id: str, *, wait: int | None = None) -> "Job": ...

    def events(self, job_id: str, *, after: str = "") -> Iterator[Event]: ...

    def cancel(self, job_id: str) -> "Job": ...

    def delete(self, job_id: str) -> None: ...


class JobFailed(ClientError):
    """The job ended without success, so there is no output to give."""

    def __init__(self, job: "Job") -> None:
        why = f"{job.error.code}: {job.error.message}" if job.error is not None else job.status
        super().__init__(f"job {job.id} {job.status}: {why}")
        self.job = job


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job did not succeed."""

    code: str
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """What the server last said of a job. Calls return a newer one; this one never changes."""

    id: str
    model: str
    status: str
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    attempt: int
    queue_position: int | None
    cancel_requested: bool
    cached: bool
    output: Any
    error: JobError | None
    usage: Mapping[str, Any]
    metadata: Mapping[str, str]
    raw: Mapping[str, Any] = field(repr=False)
    """The JSON object as it came."""
    _client: JobCalls = field(repr=False, compare=False)

    @classmethod
    def parse(cls, value: Mapping[str, Any], client: JobCalls) -> "Job":
        """From the API's JSON. Fields that this version does not know stay in `raw`."""
        error = value.get("error")
        return cls(
            id=value["id"],
            model=value["model"],
            # `POST /v1/infer` answers with the parts of a job that has succeeded.
            status=value.get("status", "succeeded"),
            created_at=value.get("created_at"),
            started_at=value.get("started_at"),
            finished_at=value.get("finished_at"),
            attempt=value.get("attempt", 0),
            queue_position=value.get("queue_position"),
            cancel_requested=value.get("cancel_requested", False),
            cached=value.get("cached", False),
            output=value.get("output"),
            error=JobError(error["code"], error["message"], error.get("retryable", False))
            if error
            else None,
            usage=value.get("usage") or {},
            metadata=value.get("metadata") or {},
            raw=value,
            _client=client,
        )

    @property
    def done(self) -> bool:
        """Whether the job has ended, well or not."""
        return self.status in TERMINAL

    def refresh(self) -> "Job":
        """The job as it is now."""
        return self._client.get(self.id)

    def wait(self, timeout: float | None = None) -> "Job":
        """The job once it has ended. Raises `TimeoutError` after `timeout` seconds."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        job = self
        while not job.done:
            asked = time.monotonic()
            if asked >= end:
                raise TimeoutError(f"job {self.id} is still {job.status} after {timeout:g} s")
            hold = max(1, min(LONGEST_HOLD, math.ceil(end - asked) if timeout else LONGEST_HOLD))
            job = self._client.get(self.id, wait=hold)
            if not job.done and time.monotonic() - asked < hold / 2:
                # The server did not hold the answer (it may be draining); do not ask in a frenzy.
                time.sleep(min(PATIENCE, max(0.0, end - time.monotonic())))
        return job

    def stream(self, *, after: str = "") -> Iterator[Event]:
        """The job's events from the beginning or after the event `after`, until `done`.

        Reconnects by itself. Raises `ConnectionFailed` or `ApiError` when that is no use any more.
        """
        return self._client.events(self.id, after=after)

    def text(self, timeout: float | None = None) -> str:
        """Wait for the end and return the text. Raises `JobFailed`, or `TimeoutError` as `wait` does."""
        job = self.wait(timeout)
        if job.status != "succeeded":
            raise JobFailed(job)
        text = job.output.get("text") if isinstance(job.output, dict) else None
        if not isinstance(text, str):
            raise TypeError(f"the output of job {job.id} ({job.model}) is not text")
        return text

    def cancel(self) -> "Job":
        """Ask the server to stop the job; see `Client.cancel`."""
        return self._client.cancel(self.id)

    def delete(self) -> None:
        """Remove the ended job, its output and its events."""
        self._client.delete(self.id)
