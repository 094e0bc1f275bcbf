"""Inference on one connection: `POST /v1/infer` waits, `POST /v1/infer/stream` streams."""

import time
from collections.abc import Callable
from typing import NamedTuple

from api.http import requests
from api.http.answers import answer, job_json, links
from api.http.errors import problem, to_problem
from api.http.limits import RequestCharges, with_quota_status
from api.http.operations import EVENT_STREAM, Answer, Operations
from api.http.parameters import (
    IDEMPOTENCY_KEY,
    LAST_EVENT_ID,
    SUBMISSION_PROBLEMS,
    TIMEOUT,
    TRACEPARENT,
)
from api.http.reply import Answered, Reply
from api.http.request_context import RequestContext
from api.http.sse.form import Form, NativeForm
from api.intake.acceptance import Accepted, Rejected, accept, answered, submit
from api.intake.submission import Submission, read_submission
from api.openapi import examples
from api.routes.streams import cursor_asked_for, resumed, stream
from api.state.limit_plan import Counted
from shared.domain.creation import Replayed
from shared.domain.errors import PROBLEMS, InvalidRequest, JobsError, StoreUnavailable
from shared.domain.events import EventId
from shared.domain.outputs import EVENT_DATA
from shared.domain.records import NewJob, Record
from shared.domain.schemas import Job, JobError, JobRequest
from shared.domain.states import JobState

DEFAULT_TIMEOUT = 60.0
MAX_TIMEOUT = 600.0

_ENDINGS = {
    JobState.FAILED: JobError(code="engine_error", message="The job failed.", retryable=True),
    JobState.CANCELED: JobError(
        code="job_canceled", message="The job was canceled.", retryable=False
    ),
    JobState.EXPIRED: JobError(
        code="job_expired", message="The deadline passed before a result existed.", retryable=False
    ),
}

infer = Operations("infer", __name__)


class Asked(NamedTuple):
    """A request for an inference: how many seconds to wait for its end, and the job."""

    timeout: float
    submission: Submission


class AskedStream(NamedTuple):
    """A request for a stream: behind which event it begins, None for the first, and the job."""

    cursor: EventId | None
    submission: Submission


def _read(here: RequestContext) -> Asked:
    timeout = requests.seconds(here, "timeout", default=DEFAULT_TIMEOUT, maximum=MAX_TIMEOUT)
    return Asked(timeout, read_submission(here))


def _read_stream(here: RequestContext) -> AskedStream:
    cursor = cursor_asked_for(here)
    submission = read_submission(here)
    if cursor is not None and submission.job.idempotency_key is None:
        raise InvalidRequest(
            "Last-Event-ID alone names no job, and this request would make another one. Send it to "
            "GET {Location}/events, Location being a header of the first answer; or send an "
            "Idempotency-Key with the request and with each repeat, and its job goes on here.",
            code="invalid_cursor",
        )
    return AskedStream(cursor, submission)


@infer.operation(
    "POST",
    "/v1/infer",
    counted=Counted.SUBMIT,
    reads=_read,
    parameters=(TIMEOUT, IDEMPOTENCY_KEY, TRACEPARENT),
    body=JobRequest,
    body_examples=examples.REQUESTS,
    answers={
        200: Answer("The finished job.", Job, examples.FINISHED),
        202: Answer(
            "Not done within `timeout`; the job goes on.",
            Job,
            examples.QUEUED,
            headers={"Location": "Where the job is."},
        ),
    },
    problems=(
        *SUBMISSION_PROBLEMS,
        *(
            "invalid_input",
            "poison_input",
            "output_too_large",
            "engine_error",
            "out_of_memory",
            "worker_crashed",
            "run_timeout",
        ),
        *("job_canceled", "job_expired", "model_unavailable"),
    ),
)
def infer_now(here: RequestContext, asked: Asked, charges: RequestCharges) -> Answered:
    """Infer and wait for the result

    The job is an ordinary one: when it is not done within `timeout`, the answer is 202 with the job, which
    goes on. A job that fails answers a problem document with `job_id`. While the model's circuit breaker is
    open and no fallback can run the job, the answer is 503 `model_unavailable` at once. `cached` says that
    the result is an earlier request's; `Cache-Control: no-store` asks for one of its own.
    """
    accepted = submit(here, asked.submission, charges, asked.timeout, urgent=True)
    if isinstance(accepted, Rejected):
        reply = _rejection(here, asked.submission.job, accepted)
    else:
        reply = _answer(here, accepted)
    return with_quota_status(reply, accepted.charges)


@infer.operation(
    "POST",
    "/v1/infer/stream",
    counted=Counted.SUBMIT,
    reads=_read_stream,
    # A reader is written down before its job is made; who is over the limit must not cost that.
    charged_first=True,
    parameters=(IDEMPOTENCY_KEY, LAST_EVENT_ID, TRACEPARENT),
    body=JobRequest,
    body_examples=examples.REQUESTS,
    answers={
        200: Answer(
            "The events, until `done`.",
            media=EVENT_STREAM,
            example=examples.EVENTS,
            events=EVENT_DATA,
            headers={"Location": "Where the job is."},
        ),
        204: Answer("A repeated request whose cursor is the terminal event."),
    },
    problems=(*SUBMISSION_PROBLEMS, "invalid_cursor", "events_expired", "model_unavailable"),
)
def infer_stream(here: RequestContext, asked: AskedStream, charges: RequestCharges) -> Answered:
    """Infer and stream the events

    The same events as `GET /v1/jobs/{job_id}/events`, on this connection. The job lives as long as
    somebody reads it: when the client goes away and nobody reads its events within the grace period, the
    job is canceled. Come back to `{Location}/events` with `Last-Event-ID`.
    """
    form = NativeForm(links(here))
    return stream_new(here, asked.submission, charges, lambda _: form, asked.cursor)


def _rejection(here: RequestContext, job: NewJob, rejected: Rejected) -> Reply:
    """Why there is no job, unless what it would bring is here already."""
    if isinstance(rejected.error, StoreUnavailable) and (kept := _kept(here, job)) is not None:
        return answer(job_json(kept, links(here)))
    return to_problem(here, rejected.error)


def _answer(here: RequestContext, accepted: Accepted) -> Reply:
    if not accepted.record.terminal:
        return answer(accepted.json, 202, Retry_After="1", **accepted.headers)
    if accepted.record.state is not JobState.SUCCEEDED:
        return failure(here, accepted)
    # No Location: the answer is the result, and werkzeug's handling of that header costs 4 % of the call.
    replayed = {"Idempotent_Replayed": "true"} if accepted.replayed else {}
    return answer(accepted.json, 200, **replayed)


def _kept(here: RequestContext, job: NewJob) -> Record | None:
    """What can be answered without the store: a result that is here, to whom asks for no more than that."""
    if job.webhook or job.idempotency_key is not None:
        return None
    if (result := here.services.cache.kept(job.share)) is None:
        return None
    here.services.observers.emit("result_looked_up", job.model, "hit")
    return answered(job, int(time.time() * 1000), result.borrowed)


def stream_new(
    here: RequestContext,
    submission: Submission,
    charges: RequestCharges,
    form_of: Callable[[str], Form],
    cursor: EventId | None = None,
) -> Answered:
    """Make a job that lives as long as somebody reads it, and stream its events, told in `form_of` its id.

    Those of a job that an earlier request had made begin behind `cursor`.
    """
    services, job = here.services, submission.job
    # In this order no crash of ours leaves a job that nobody watches over and nobody reads.
    try:
        presence = services.readers.track_reader(job.id, job.expires_in)
    except StoreUnavailable as error:
        return with_quota_status(to_problem(here, error), charges)
    # Not `fresh`: on two connections the job may be made before the subscription, and what that loses
    # a reader would see only at the next event. Callers that wait for the end do not mind.
    follower = services.follow(job.id)
    try:
        placed = accept(here, submission, charges, urgent=True)
    except Exception:
        follower.close()
        services.readers.forget(job.id)
        raise
    if isinstance(placed, Rejected):
        follower.close()
        if isinstance(placed.error, StoreUnavailable):
            # The job may be in all the same; nobody can read it, so it must not run.
            presence.leave(watch=True)
        else:
            services.readers.forget(job.id)
        return with_quota_status(to_problem(here, placed.error), placed.charges)
    outcome = placed.outcome
    if isinstance(outcome, Replayed):
        follower.close()
        services.readers.forget(job.id)
        again = _stream_again(here, outcome.id, cursor, form_of(outcome.id))
        return with_quota_status(again, placed.charges)
    response = stream(here, follower, presence, form_of(job.id))
    response.headers["Location"] = links(here).job(outcome.id)
    return with_quota_status(response, placed.charges)


def _stream_again(
    here: RequestContext, job_id: str, cursor: EventId | None, form: Form
) -> Answered:
    """The events of a job that an earlier request made."""
    try:
        response = resumed(here, here.services.store.get(job_id, here.caller.tenant), cursor, form)
    except JobsError as error:
        return to_problem(here, error)
    response.headers["Idempotent-Replayed"] = "true"
    response.headers["Location"] = links(here).job(job_id)
    return response


def failure(here: RequestContext, accepted: Accepted) -> Reply:
    """A job that ended without success, as a problem document."""
    error = _error_of(accepted.record)
    code = error.code if error.code in PROBLEMS else "engine_error"
    headers = {name.replace("_", "-"): value for name, value in accepted.headers.items()}
    return problem(here, code, error.message, headers=headers, job_id=accepted.record.id)


def _error_of(record: Record) -> JobError:
    return record.job().error or _ENDINGS[record.state]
