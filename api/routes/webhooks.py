"""Webhooks in: a signed request for inference makes a job."""

import time
from typing import Any

from api.http import requests
from api.http.answers import answer
from api.http.body_bounds import decoded
from api.http.caller import DEFAULT_TENANT, Access, Client
from api.http.errors import to_problem
from api.http.limits import (
    RequestCharges,
    charges_of,
    charges_of_address,
    with_quota_status,
)
from api.http.operations import Answer, Operations, Parameter
from api.http.parameters import TRACEPARENT
from api.http.reply import Answered
from api.http.request_context import RequestContext
from api.intake.acceptance import Rejected, submit
from api.intake.submission import submission_of
from api.openapi import examples
from api.state.limit_plan import Counted
from shared.domain.errors import JobsError, RateLimited
from shared.domain.records import own_key
from shared.domain.requests.parsing import parse_event
from shared.domain.schemas import IngestEvent, Job
from shared.settings import Settings
from shared.store.api_keys import Scope
from shared.webhooks import signing

ENDPOINT = "POST /webhooks/ingest"
CLIENT = Client("webhooks", DEFAULT_TENANT, frozenset({Scope.JOBS_WRITE}))
"""Whoever knows a secret: counted as one client, apart from those with tokens."""
REQUESTED = "inference.requested"

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
def ingest(here: RequestContext) -> Answered:
    """Make a job by webhook

    By Standard Webhooks, signed with a secret of `WEBHOOK_HMAC_SECRET`; no token is needed. The job
    belongs to the default tenant.
    """
    settings = here.services.settings
    if not settings.keyring:
        raise JobsError(
            "This server takes in no webhooks: its WEBHOOK_HMAC_SECRET is not set.",
            code="ingest_not_configured",
        )
    # In the order of what it costs. Until the signature is known to be good, everybody is a stranger.
    stranger = charges_of_address(here, ENDPOINT, Counted.SUBMIT).commit()
    if stranger.refused is not None:
        return with_quota_status(to_problem(here, stranger.refusal()), stranger)
    try:
        slot = here.services.slots.enter(stranger.client)
    except RateLimited:
        stranger.emit_refusal("open")
        raise
    try:
        return _verified(here, settings, stranger)
    finally:
        slot.leave()


def _verified(here: RequestContext, settings: Settings, stranger: RequestCharges) -> Answered:
    try:
        message_id, body = _read(here, settings)
    except Exception as error:  # noqa: BLE001 - whatever it is, it has an answer
        return with_quota_status(to_problem(here, error), stranger)
    here.caller = CLIENT
    charges = charges_of(here, ENDPOINT, Counted.SUBMIT).commit()
    if charges.refused is not None:
        return with_quota_status(to_problem(here, charges.refusal()), charges)
    try:
        data = _requested(decoded(body, settings.max_body_values))
        asked = requests.Sent(own_key("ingest", message_id), requests.no_store(here.environ), data)
        submission = submission_of(here, asked, REQUESTED)
    except Exception as error:  # noqa: BLE001 - the same
        return with_quota_status(to_problem(here, error), charges)
    accepted = submit(here, submission, charges, 0)
    if isinstance(accepted, Rejected):
        return with_quota_status(to_problem(here, accepted.error), accepted.charges)
    reply = answer(accepted.json, 200 if accepted.replayed else 202, **accepted.headers)
    return with_quota_status(reply, accepted.charges)


def _read(here: RequestContext, settings: Settings) -> tuple[str, bytes]:
    """The id and the body of a message whose signature is good."""
    headers, now = dict(here.request.headers), time.time()
    signing.claimed(headers, now=now, window=settings.webhook_window)
    requests.require_json(here)
    body = requests.raw_body(here, settings.webhook_max_body_bytes)
    message_id = settings.keyring.verify(headers, body, now=now, window=settings.webhook_window)
    return message_id, body


def _requested(event: dict[str, Any]) -> dict[str, Any]:
    if event.get("type") != REQUESTED:
        raise JobsError(f"The type must be {REQUESTED!r}.", code="unknown_event_type")
    return parse_event(event)
