"""Webhooks in: a signed request for inference makes a job."""

import time

from api import current, examples, requests
from api.answers import answer
from api.auth import DEFAULT_TENANT, Access, Client
from api.limit_plan import Counted
from api.limits import admit, admit_stranger
from api.operations import Answer, Operations, Parameter
from api.parameters import TRACEPARENT
from api.reply import Reply
from api.services import services
from api.submission import submission_of, submit
from shared.api_keys import Scope
from shared.errors import InvalidRequest, JobsError
from shared.schemas import IngestEvent, Job
from shared.webhooks import signing

ENDPOINT = "POST /webhooks/ingest"
CLIENT = Client("webhooks", DEFAULT_TENANT, frozenset({Scope.JOBS_WRITE}))
"""Whoever knows a secret: counted as one client, apart from those with tokens."""
REQUESTED = "inference.requested"
MEMBERS = frozenset(IngestEvent.model_fields)

webhooks = Operations("webhooks", __name__)


@webhooks.operation(
    "POST",
    "/webhooks/ingest",
    access=Access.OPEN,
    parameters=(
        Parameter(signing.ID, "header", "Names the message; a repeated one makes no second job."),
        Parameter(signing.TIMESTAMP, "header", "When it was sent, in seconds since 1970."),
        Parameter(
            signing.SIGNATURE,
            "header",
            "`v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`; several with spaces between.",
        ),
        TRACEPARENT,
    ),
    body=IngestEvent,
    body_examples=examples.INGESTED,
    answers={
        202: Answer("The job.", Job, examples.QUEUED, headers={"Location": "Where the job is."}),
        200: Answer(
            "The job, which an earlier message with this `webhook-id` had made.",
            Job,
            examples.QUEUED,
            headers={"Idempotent-Replayed": "`true`."},
        ),
    },
    problems=(
        *("bad_request", "malformed_json", "unsupported_media_type", "body_too_large"),
        *("ingest_not_configured", "invalid_signature", "unknown_event_type", "invalid_request"),
        *("unknown_model", "prompt_too_long"),
        *("webhook_refused", "webhook_backlog_full", "redis_unavailable"),
        *("queue_full", "tenant_queue_full", "deadline_unreachable", "rate_limited"),
        *("storage_quota_exceeded", "storage_full", "webhook_lookups_busy"),
    ),
)
def ingest() -> Reply:
    """Make a job by webhook

    By Standard Webhooks, signed with a secret of `WEBHOOK_HMAC_SECRET`; no token is needed. The job
    belongs to the default tenant.
    """
    body = requests.raw_body()
    settings = services().settings
    if not settings.keyring:
        raise JobsError(
            "This server takes in no webhooks: its WEBHOOK_HMAC_SECRET is not set.",
            code="ingest_not_configured",
        )
    try:
        message_id = settings.keyring.verify(
            dict(current.request().headers), body, now=time.time(), window=settings.webhook_window
        )
    except signing.InvalidSignature:
        admit_stranger(ENDPOINT)
        raise
    current.handling().client = CLIENT
    admit(ENDPOINT, Counted.SUBMIT)
    requests.require_json()
    data = _requested(requests.decoded(body))
    accepted = submit(submission_of(data, f"webhook {message_id}", REQUESTED), 0)
    return answer(accepted.json, 200 if accepted.replayed else 202, **accepted.headers)


def _requested(event: dict[str, object]) -> dict[str, object]:
    if event.get("type") != REQUESTED:
        raise JobsError(f"The type must be {REQUESTED!r}.", code="unknown_event_type")
    unknown = sorted(set(event) - MEMBERS)
    if unknown:
        rows = [
            {"loc": [name], "msg": "Extra inputs are not permitted", "type": "extra_forbidden"}
            for name in unknown[:32]
        ]
        raise InvalidRequest(f"{unknown[0]}: Extra inputs are not permitted", errors=rows)
    data = event.get("data")
    if not isinstance(data, dict):
        row = {"loc": ["data"], "msg": "must be a job request", "type": "dict_type"}
        raise InvalidRequest("data: must be a job request", errors=[row])
    return data
