"""Dead letters: jobs that failed for no fault of their input, and another try for them."""

from api.http import requests
from api.http.answers import answer, document, job_json, job_members, links
from api.http.operations import Answer, Operations
from api.http.parameters import JOB_ID, LIMIT, PAGE
from api.http.reply import Reply
from api.http.request_context import RequestContext
from api.intake.submission import tenant_bytes, tenant_max
from api.openapi import examples
from api.state.limit_plan import Counted
from shared.domain.audit import Action
from shared.domain.creation import Created, Mismatched, Refused, Replayed, Stored
from shared.domain.schemas import Job, JobList

dead_letters = Operations("dead_letters", __name__, tag="dead letters")


@dead_letters.operation(
    "GET",
    "/v1/dead-letters",
    parameters=(LIMIT,),
    answers={200: Answer("The newest of them.", JobList, examples.LISTING)},
    problems=("invalid_parameter",),
)
def list_dead_letters(here: RequestContext) -> Reply:
    """List dead letters, newest first

    Jobs that failed with `engine_error`, `out_of_memory`, `worker_crashed` or `run_timeout` and were not
    tried again since.
    """
    limit = requests.count(here, "limit", default=PAGE, maximum=PAGE)
    records = here.services.store.dead(here.caller.tenant, limit)
    urls = links(here)
    return document(
        {"data": [job_members(record, urls) for record in records], "next_cursor": None}
    )


@dead_letters.operation(
    "POST",
    "/v1/jobs/{job_id}/retry",
    changes=Action.JOB_RETRY,
    counted=Counted.SUBMIT,
    parameters=(JOB_ID,),
    answers={
        202: Answer(
            "The new job.", Job, examples.QUEUED, headers={"Location": "Where the new job is."}
        ),
        200: Answer(
            "The new job, which an earlier call had made.",
            Job,
            examples.QUEUED,
            headers={"Idempotent-Replayed": "`true`."},
        ),
    },
    problems=(
        *("job_not_found", "job_not_failed", "input_gone", "unknown_model"),
        *("queue_full", "tenant_queue_full", "deadline_unreachable"),
        *("storage_quota_exceeded", "storage_full"),
    ),
)
def retry_job(here: RequestContext, job_id: str) -> Reply:
    """Try a failed job again

    Makes a new job of the same request; its `metadata.retry_of` names this one, which stays as it ended.
    May be repeated. The input of a job that it was the fault of is not kept, so such a job cannot be tried
    again.
    """
    outcome = retry(here, job_id)
    here.changes(outcome.id)
    urls, replayed = links(here), isinstance(outcome, Replayed)
    return answer(
        job_json(here.services.store.get(outcome.id), urls),
        200 if replayed else 202,
        Location=urls.job(outcome.id),
        **({"Idempotent_Replayed": "true"} if replayed else {}),
    )


def retry(here: RequestContext, job_id: str) -> Stored:
    """Make the new job of a failed one of the caller's. Raises `JobsError`."""
    services, tenant = here.services, here.caller.tenant
    spec = services.catalog.get(services.store.get(job_id, tenant).fields["model"])
    outcome = services.store.retry(
        job_id,
        tenant,
        max_queued=spec.limits.max_queued,
        tenant_max=tenant_max(here),
        max_bytes=tenant_bytes(here),
    )
    if isinstance(outcome, Refused | Mismatched):
        raise outcome.to_error()
    assert isinstance(outcome, Stored), "a retry is charged before, by its request"
    if isinstance(outcome, Created) and outcome.ring:
        services.notifier.ring(spec.name)
    return outcome
