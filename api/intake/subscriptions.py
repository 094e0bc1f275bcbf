"""Whether a job may have the webhook that it asks for."""

from typing import Literal

from api.http.answers import links
from api.http.request_context import RequestContext
from shared.domain.errors import InvalidRequest
from shared.domain.schemas import WebhookRequest
from shared.webhooks.outbox import Subscription


def subscription(here: RequestContext, wanted: WebhookRequest, form: str) -> str:
    """The webhook as the job's record holds it, told in `form` (`shared.webhooks.bodies`).

    Raises `WebhookRefused`, `LookupsBusy`, `BacklogFull`, and `InvalidRequest` where nothing could sign it.
    """
    services, tenant = here.services, here.caller.tenant
    # Predictions are signed with a secret that every tenant has.
    signs = form or services.settings.keyring or services.webhook_secrets.keyring(tenant)
    if not signs:
        raise InvalidRequest(
            "This server cannot sign your webhooks: its WEBHOOK_HMAC_SECRET is not set, and you have no "
            "secret of your own here.",
            code="webhook_secret_missing",
        )
    services.outbox.admit(tenant, services.settings.webhook_max_pending)
    target = services.webhook_urls.admit(wanted.url, tenant)
    return str(Subscription(target, wanted.events, links(here).base, form))


def told_to_endpoints(here: RequestContext) -> Literal["response"]:
    """What `told_as` is of a job whose end the caller's endpoints are told. Raises `BacklogFull`."""
    here.services.outbox.admit_events(
        here.caller.tenant, here.services.settings.webhook_max_pending
    )
    return "response"
