"""`/v1/webhook_endpoints`: where events of responses and batches are sent, as OpenAI's clients manage it."""

import secrets
from typing import Any, TypeVar

from pydantic import ValidationError

from api.http import requests
from api.http.answers import document
from api.http.operations import Answer, Dialect, Operations, Parameter
from api.http.reply import Reply
from api.http.request_context import RequestContext
from api.openai import webhook_examples as examples
from api.openai.errors import status_of, to_openai, told
from api.openai.schemas import OpenAIProblem
from api.openai.webhook_bodies import ChangedEndpoint, NewEndpoint, Rotation, Trial
from api.openai.webhook_schemas import (
    DeletedEndpoint,
    EndpointList,
    EndpointTest,
    EndpointWithSecret,
    EventTypes,
    WebhookEndpoint,
)
from api.openai.webhook_trials import ended, status
from shared.domain.audit import Action
from shared.domain.errors import InvalidRequest
from shared.domain.requests.request_faults import invalid
from shared.domain.wire import Wire
from shared.webhooks.endpoints import EVENTS, Endpoint, EndpointNotFound
from shared.webhooks.urls import Target, WebhookRefused

PAGE, MOST = 20, 100
OVERLAP = 24 * 3600.0
"""Seconds for which a secret signs beside the one that took its place, where that is asked for."""
ENDPOINT = Parameter(
    "endpoint_id",
    "path",
    "The endpoint's `id`.",
    {"type": "string", "pattern": "^we_[0-9a-f]{32}$"},
    examples.ENDPOINT["id"],
)
BODY = ("malformed_json", "unsupported_media_type", "body_too_large", "invalid_request")
URL = ("webhook_refused", "webhook_lookups_busy")

webhook_endpoints = Operations(
    "webhook_endpoints",
    __name__,
    tag="openai webhooks",
    dialect=Dialect(to_openai, told, status_of, OpenAIProblem),
)


@webhook_endpoints.operation(
    "POST",
    "/v1/webhook_endpoints",
    changes=Action.ENDPOINT_CREATE,
    body=NewEndpoint,
    body_examples=examples.NEW,
    answers={200: Answer("With its secret.", EndpointWithSecret, examples.WITH_SECRET)},
    problems=(*BODY, *URL, "too_many_webhook_endpoints"),
)
def create_webhook_endpoint(here: RequestContext) -> Reply:
    """Make a webhook endpoint

    It is sent the events of the tenant's background responses and batches from now on. Its secret is shown
    now and never again.
    """
    asked = _body(here, NewEndpoint)
    made = here.services.webhook_endpoints.create(
        here.caller.tenant, _target(here, asked.url), asked.name, asked.event_types
    )
    endpoint_id, endpoint, secret = made
    here.changes(endpoint_id, note=endpoint.receiver)
    return document({**_told(here, endpoint_id, endpoint), "signing_secret": secret})


@webhook_endpoints.operation(
    "GET",
    "/v1/webhook_endpoints",
    parameters=(
        Parameter(
            "after",
            "query",
            "`last_id` of the page before.",
            {"type": "string", "pattern": "^we_[0-9a-f]{32}$"},
        ),
        Parameter(
            "limit",
            "query",
            "How many at most.",
            {"type": "integer", "minimum": 1, "maximum": MOST, "default": PAGE},
            PAGE,
        ),
    ),
    answers={200: Answer("The endpoints.", EndpointList, examples.LISTED)},
    problems=("invalid_parameter", "invalid_cursor"),
)
def list_webhook_endpoints(here: RequestContext) -> Reply:
    """List the webhook endpoints, newest first"""
    limit = requests.count(here, "limit", default=PAGE, maximum=MOST)
    known = list(here.services.webhook_endpoints.all(here.caller.tenant).items())
    after = here.request.args.get("after")
    if after is not None:
        places = [at for at, (endpoint_id, _) in enumerate(known) if endpoint_id == after]
        if not places:
            raise InvalidRequest(
                "'after' names no endpoint of yours. Begin again without it.", code="invalid_cursor"
            )
        known = known[places[0] + 1 :]
    shown = [_told(here, endpoint_id, endpoint) for endpoint_id, endpoint in known[:limit]]
    return document(
        {
            "object": "list",
            "data": shown,
            "first_id": shown[0]["id"] if shown else None,
            "last_id": shown[-1]["id"] if shown else None,
            "has_more": len(known) > limit,
        }
    )


@webhook_endpoints.operation(
    "GET",
    "/v1/webhook_endpoints/{endpoint_id}",
    parameters=(ENDPOINT,),
    answers={200: Answer("The endpoint.", WebhookEndpoint, examples.ENDPOINT)},
    problems=("webhook_endpoint_not_found",),
)
def get_webhook_endpoint(here: RequestContext, endpoint_id: str) -> Reply:
    """Get a webhook endpoint

    Without its secret.
    """
    found = here.services.webhook_endpoints.get(here.caller.tenant, endpoint_id)
    return document(_told(here, endpoint_id, found))


@webhook_endpoints.operation(
    "POST",
    "/v1/webhook_endpoints/{endpoint_id}",
    changes=Action.ENDPOINT_UPDATE,
    parameters=(ENDPOINT,),
    body=ChangedEndpoint,
    body_examples=examples.CHANGED,
    answers={200: Answer("The endpoint.", WebhookEndpoint, examples.ENDPOINT)},
    problems=(*BODY, *URL, "webhook_endpoint_not_found"),
)
def update_webhook_endpoint(here: RequestContext, endpoint_id: str) -> Reply:
    """Change a webhook endpoint

    Events that have happened already go where they were to go.
    """
    asked = _body(here, ChangedEndpoint)
    changes: dict[str, Any] = {}
    if asked.url is not None:
        target = _target(here, asked.url)
        changes |= {"url": target.url, "receiver": target.receiver}
    if asked.name is not None:
        changes["name"] = asked.name
    if asked.event_types is not None:
        changes["events"] = tuple(dict.fromkeys(asked.event_types))
    found = here.services.webhook_endpoints.update(here.caller.tenant, endpoint_id, **changes)
    return document(_told(here, endpoint_id, found))


@webhook_endpoints.operation(
    "DELETE",
    "/v1/webhook_endpoints/{endpoint_id}",
    changes=Action.ENDPOINT_DELETE,
    parameters=(ENDPOINT,),
    answers={200: Answer("It is gone.", DeletedEndpoint, examples.DELETED)},
    problems=("webhook_endpoint_not_found",),
)
def delete_webhook_endpoint(here: RequestContext, endpoint_id: str) -> Reply:
    """Delete a webhook endpoint

    What it was to be told and has not been is given up.
    """
    here.services.webhook_endpoints.delete(here.caller.tenant, endpoint_id)
    return document({"id": endpoint_id, "deleted": True, "object": "webhook_endpoint.deleted"})


@webhook_endpoints.operation(
    "POST",
    "/v1/webhook_endpoints/{endpoint_id}/rotate_secret",
    changes=Action.ENDPOINT_ROTATE,
    parameters=(ENDPOINT,),
    body=Rotation,
    body_examples=examples.ROTATED,
    answers={200: Answer("With its new secret.", EndpointWithSecret, examples.WITH_SECRET)},
    problems=(*BODY, "webhook_endpoint_not_found"),
)
def rotate_webhook_secret(here: RequestContext, endpoint_id: str) -> Reply:
    """Give a webhook endpoint a new secret

    It is shown now and never again.
    """
    asked = _body(here, Rotation)
    overlap = OVERLAP if asked.keep_old_secret_active_for_24_hours else 0.0
    found, secret = here.services.webhook_endpoints.rotate(here.caller.tenant, endpoint_id, overlap)
    return document({**_told(here, endpoint_id, found), "signing_secret": secret})


@webhook_endpoints.operation(
    "POST",
    "/v1/webhook_endpoints/{endpoint_id}/test",
    changes=Action.ENDPOINT_TEST,
    parameters=(ENDPOINT,),
    body=Trial,
    body_examples=examples.TRIAL,
    answers={200: Answer("What the endpoint answered.", EndpointTest, examples.TESTED)},
    problems=(*BODY, "webhook_endpoint_not_found", "webhook_unreachable"),
)
def test_webhook_endpoint(here: RequestContext, endpoint_id: str) -> Reply:
    """Send a webhook endpoint an event

    A made-up one, signed and sent as all are, once.
    """
    asked = _body(here, Trial)
    outbox, tenant = here.services.outbox, here.caller.tenant
    kind = "resp" if asked.event_type.startswith("response.") else "batch"
    made_up = f"{kind}_{secrets.token_hex(16)}"
    delivery_id = outbox.try_out(tenant, endpoint_id, made_up, asked.event_type)
    if delivery_id is None:
        raise EndpointNotFound(endpoint_id)
    return document(
        {
            "object": "webhook_endpoint.test",
            "webhook_endpoint_id": endpoint_id,
            "event_type": asked.event_type,
            "status_code": status(ended(here, delivery_id)),
            "success": True,
        }
    )


@webhook_endpoints.operation(
    "GET",
    "/v1/webhook_event_types",
    answers={200: Answer("The types.", EventTypes, examples.TYPES)},
)
def list_webhook_event_types(_here: RequestContext) -> Reply:
    """List the types of events that endpoints can be sent"""
    return document({"object": "list", "data": EVENTS})


Body = TypeVar("Body", bound=Wire)


def _body(here: RequestContext, kind: type[Body]) -> Body:
    try:
        return kind.model_validate(requests.json_object(here))
    except ValidationError as error:
        raise invalid(error) from None


def _target(here: RequestContext, url: str) -> Target:
    """Raises `InvalidRequest` for a URL that this server does not send to."""
    try:
        return here.services.webhook_urls.admit(url, here.caller.tenant)
    except WebhookRefused as error:
        why = error.errors[0]["msg"]
        row = {"loc": ["url"], "msg": why, "type": error.code}
        raise InvalidRequest(f"url {why}.", errors=[row], code=error.code) from None


def _told(here: RequestContext, endpoint_id: str, endpoint: Endpoint) -> dict[str, Any]:
    hint = here.services.webhook_endpoints.hint(here.caller.tenant, endpoint_id, endpoint)
    return {
        "id": endpoint_id,
        "object": "webhook_endpoint",
        "url": endpoint.url,
        "name": endpoint.name,
        "event_types": endpoint.events,
        "created_at": int(endpoint.created),
        "updated_at": int(endpoint.updated),
        "signing_secret_hint": hint,
    }
