"""Jobs: make, read, list, cancel and delete them."""

from flask import Response

from api.http import requests
from api.http.answers import answer, document, job_json, job_members, links
from api.http.errors import to_problem
from api.http.limits import RequestCharges, with_quota_status
from api.http.operations import Answer, Operations, Parameter
from api.http.parameters import (
    CURSOR,
    IDEMPOTENCY_KEY,
    JOB_ID,
    PREFER,
    SUBMISSION_PROBLEMS,
    TRACEPARENT,
    WAIT,
)
from api.http.reply import Answered, Reply
from api.http.request_context import RequestContext
from api.intake.acceptance import Rejected, submit
from api.intake.submission import Submission, read_submission
from api.intake.waiting import wait_for_end
from api.openapi import examples
from api.openapi.model_examples import TEXT_MODEL
from api.state.limit_plan import Counted
from shared.domain.audit import Action
from shared.domain.errors import InvalidRequest
from shared.domain.schemas import Job, JobList, JobRequest
from shared.domain.states import JobState

PAGE = 20
MAX_PAGE = 100

jobs = Operations("jobs", __name__)


@jobs.operation(
    "POST",
    "/v1/jobs",
    counted=Counted.SUBMIT,
    reads=read_submission,
    parameters=(PREFER, IDEMPOTENCY_KEY, TRACEPARENT),
    body=JobRequest,
    body_examples=examples.REQUESTS,
    answers={
        202: Answer(
            "The job, which waits or runs.",
            Job,
            examples.QUEUED,
            headers={
                "Location": "Where the job is.",
                "Preference-Applied": "The wait that was applied.",
            },
        ),
        200: Answer(
            "The job had ended within `Prefer: wait` or with a result from the cache, or an earlier "
            "request with this Idempotency-Key had made it.",
            Job,
            examples.FINISHED,
            headers={"Idempotent-Replayed": "`true` where an earlier request had made the job."},
        ),
    },
    problems=SUBMISSION_PROBLEMS,
)
def create_job(here: RequestContext, submission: Submission, charges: RequestCharges) -> Answered:
    """Make a job

    Once this answers the job is safe: it outlives the connection, this server and its workers. Send an
    `Idempotency-Key` to be able to repeat the call without making a second job. While the model's circuit
    breaker is open the job goes to the model's fallback, or waits, with its deadline running. A request that
    has only one possible answer may get that of an earlier one (`cached`), unless it comes with
    `Cache-Control: no-store`.
    """
    wait = submission.asked.wait
    accepted = submit(here, submission, charges, wait or 0)
    if isinstance(accepted, Rejected):
        return with_quota_status(to_problem(here, accepted.error), accepted.charges)
    applied = {} if wait is None else {"Preference_Applied": f"wait={wait}"}
    done = accepted.replayed or accepted.cached or (bool(wait) and accepted.record.terminal)
    reply = answer(accepted.json, 200 if done else 202, **applied, **accepted.headers)
    return with_quota_status(reply, accepted.charges)


@jobs.operation(
    "GET",
    "/v1/jobs/{job_id}",
    parameters=(JOB_ID, WAIT),
    answers={
        200: Answer(
            "The job.",
            Job,
            examples.RETRIED,
            headers={"Retry-After": "While the job has not ended: when to look again."},
        )
    },
    problems=("job_not_found", "invalid_parameter"),
)
def get_job(here: RequestContext, job_id: str) -> Reply:
    """Get a job

    With `wait` the answer is held until the job ends or so many seconds have passed.
    """
    wait = requests.seconds(here, "wait", default=0, maximum=requests.MAX_WAIT, clamp=True)
    record = wait_for_end(here, job_id, wait)
    response = answer(job_json(record, links(here)))
    if not record.terminal:
        response.headers["Retry-After"] = "1"
    return response


@jobs.operation(
    "GET",
    "/v1/jobs",
    parameters=(
        Parameter(
            "status",
            "query",
            "Only jobs in this state.",
            {"type": "string", "enum": [state.value for state in JobState]},
            "succeeded",
        ),
        Parameter("model", "query", "Only jobs of this model.", example=TEXT_MODEL),
        Parameter(
            "limit",
            "query",
            "How many jobs at most.",
            {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
            PAGE,
        ),
        CURSOR,
    ),
    answers={200: Answer("A page of jobs.", JobList, examples.LISTING)},
    problems=("invalid_parameter", "invalid_cursor"),
)
def list_jobs(here: RequestContext) -> Reply:
    """List jobs, newest first

    Only the caller's own. Follow `next_cursor` until it is null; a page may hold fewer jobs than `limit`
    and still have a next one.
    """
    query = here.request.args
    records, cursor = here.services.store.listing(
        here.caller.tenant,
        state=_state(query.get("status")),
        model=query.get("model"),
        limit=requests.count(here, "limit", default=PAGE, maximum=MAX_PAGE),
        cursor=query.get("cursor"),
    )
    urls = links(here)
    return document(
        {"data": [job_members(record, urls) for record in records], "next_cursor": cursor}
    )


@jobs.operation(
    "POST",
    "/v1/jobs/{job_id}/cancel",
    changes=Action.JOB_CANCEL,
    parameters=(JOB_ID,),
    answers={
        202: Answer("Its worker has been asked to stop.", Job, examples.CANCELING),
        200: Answer("The job has ended, by this call or before.", Job, examples.CANCELED),
    },
    problems=("job_not_found",),
)
def cancel_job(here: RequestContext, job_id: str) -> Reply:
    """Cancel a job

    May be repeated. A job is shown as `canceled` only after its work has really stopped.
    """
    store, tenant = here.services.store, here.caller.tenant
    store.cancel(job_id, tenant)
    record = store.get(job_id, tenant)
    return answer(job_json(record, links(here)), 200 if record.terminal else 202)


@jobs.operation(
    "DELETE",
    "/v1/jobs/{job_id}",
    changes=Action.JOB_DELETE,
    parameters=(JOB_ID,),
    answers={204: Answer("The job, its output and its events are gone.")},
    problems=("job_not_found", "job_not_terminal"),
)
def delete_job(here: RequestContext, job_id: str) -> Response:
    """Delete a job that has ended"""
    services = here.services
    services.cache.forget(services.store.delete(job_id, here.caller.tenant))
    return Response(status=204)


def _state(given: str | None) -> JobState | None:
    if given is None:
        return None
    try:
        return JobState(given)
    except ValueError:
        states = ", ".join(JobState)
        raise InvalidRequest(
            f"'status' must be one of {states}, not {given[:40]!r}.", code="invalid_parameter"
        ) from None
