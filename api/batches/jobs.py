"""The jobs of a batch's lines: made, asked for their ends, given up, forgotten."""

from collections.abc import Iterable, Mapping
from typing import Any

from api.batches.answers import AnswerLine, of_job, of_refusal, unanswered
from api.batches.endpoints import ENDPOINTS, submission
from api.http.caller import Client
from api.http.limits import RequestCharges
from api.http.request_context import RequestContext
from api.intake.acceptance import Rejected, accept
from api.services import Services
from shared import context
from shared.domain.batches import Batch
from shared.domain.errors import JobNotFound, JobsError, StoreUnavailable, TryLater
from shared.domain.records import Record
from shared.redis.connection import reachable
from shared.store.api_keys import Scope

ENDPOINT = "POST /v1/batches"
LEAST_SECONDS = 1.0


class Later(Exception):
    """No more jobs can be made now: why, and when to come again, in seconds."""

    def __init__(self, why: JobsError, seconds: float) -> None:
        super().__init__(str(why))
        self.seconds = seconds


class LineJobs:
    """The jobs of one batch. Every method raises `StoreUnavailable`."""

    def __init__(self, services: Services, batch: Batch) -> None:
        self._services = services
        self._store = services.store
        self._batch = batch
        self._endpoint = ENDPOINTS[batch.endpoint]
        limits = {
            name: value
            for name, value in (("max_queued", batch.max_queued), ("max_bytes", batch.max_bytes))
            if value >= 0
        }
        scopes = frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE})
        self._caller = Client(batch.key_id, batch.tenant, scopes, **limits)

    def make(
        self, line: int, custom_id: str, body: dict[str, Any], now: float
    ) -> AnswerLine | None:
        """Make the job of a line, once however often it is asked; or the answer of a line that makes none.

        Raises `Later`.
        """
        job_id, here = self._batch.job_id(line), self._request(line)
        try:
            asked = submission(
                here, self._endpoint, body, job_id, max(LEAST_SECONDS, self._batch.expires - now)
            )
            charges = RequestCharges(self._services, ENDPOINT, f"key:{self._batch.key_id}", None)
            placed = accept(here, asked, charges, urgent=False)
        except Exception as error:  # noqa: BLE001 - one line's fault is that line's answer
            return self._refused(here, custom_id, job_id, error)
        if isinstance(placed, Rejected):
            return self._refused(here, custom_id, job_id, placed.error)
        return None

    def _refused(
        self, here: RequestContext, custom_id: str, job_id: str, error: Exception
    ) -> AnswerLine:
        if isinstance(error, StoreUnavailable):
            raise error
        if isinstance(error, TryLater):
            raise Later(error, error.retry_after)
        if isinstance(error, JobsError) and error.retryable:
            raise Later(error, 1.0)
        return of_refusal(here, custom_id, job_id, error)

    def ended(self, lines: Iterable[int]) -> tuple[dict[int, int], list[int]]:
        """Of these lines those whose jobs have ended, each with the bytes of its output, and those whose jobs
        are gone.
        """
        asked = list(lines)
        with reachable():
            pipe = self._store.redis.pipeline(transaction=False)
            for line in asked:
                key = self._store.keys("job", self._batch.job_id(line))
                pipe.hget(key, "state")
                pipe.hstrlen(key, "output")
            found = pipe.execute()
        rows = zip(asked, found[::2], found[1::2], strict=True)
        done, gone = dict[int, int](), list[int]()
        for line, state, size in rows:
            if state is None:
                gone.append(line)
            elif state not in (b"queued", b"running"):
                done[line] = size
        return done, gone

    def answers(self, custom_ids: Mapping[int, str], ending: str) -> dict[int, AnswerLine]:
        """What the jobs of these lines, which have ended, brought; of one that is gone by now nothing."""
        found = dict[int, AnswerLine]()
        for line, custom_id in custom_ids.items():
            job_id = self._batch.job_id(line)
            try:
                record = self._store.get(job_id, self._batch.tenant)
            except JobNotFound:
                # Gone since it was looked at: it is made anew, or told as unanswered at the end.
                continue
            asked = self._asked(job_id) if self._endpoint.keeps else b""
            found[line] = self._answer(line, custom_id, record, asked, ending)
        return found

    def _asked(self, job_id: str) -> bytes:
        """What is kept beside a job. Where that has gone before the job, its line is to end all the same."""
        try:
            return self._store.asked(job_id, self._batch.tenant)[1]
        except JobNotFound:
            return b""

    def _answer(
        self, line: int, custom_id: str, record: Record, asked: bytes, ending: str
    ) -> AnswerLine:
        try:
            request_id = self._request_id(line)
            return of_job(self._endpoint, custom_id, request_id, record, asked, ending)
        except Exception as error:  # noqa: BLE001 - one line's fault is that line's answer
            return of_refusal(self._request(line), custom_id, record.id, error)

    def unanswered(self, line: int, custom_id: str, why: tuple[str, str]) -> AnswerLine:
        return unanswered(custom_id, self._batch.job_id(line), why)

    def cancel(self, lines: Iterable[int]) -> None:
        """Ask for the ends of jobs. One that is gone is no error."""
        for line in lines:
            try:
                self._store.cancel(self._batch.job_id(line), self._batch.tenant)
            except JobNotFound:
                continue

    def forget(self, lines: Iterable[int]) -> None:
        """Forget jobs that have ended: their answers are in a part."""
        for line in lines:
            self._store.call("delete", self._batch.job_id(line), self._batch.tenant)

    def _request_id(self, line: int) -> str:
        return f"{self._batch.id}-{line + 1}"

    def _request(self, line: int) -> RequestContext:
        """A line as a request: what its job and its log lines are known by."""
        request_id = self._request_id(line)
        context.begin(request_id=request_id, route=ENDPOINT)
        asked = {"REQUEST_METHOD": "POST", "PATH_INFO": self._batch.endpoint}
        here = RequestContext(self._services, asked, request_id)
        here.caller = self._caller
        return here
