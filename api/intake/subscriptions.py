"""Whether a job may have the webhook that it asks for."""

from api.http.answers import links
from api.http.auth import tenant
from api.http.request_context import services
from shared.domain.errors import InvalidRequest
from shared.domain.schemas import WebhookRequest
from shared.webhooks.outbox import Subscription


def subscription(wanted: WebhookRequest | None) -> str:
    """The webhook as the job's record holds it, '' for none.

    Raises `WebhookRefused`, `LookupsBusy`, `BacklogFull`, and `InvalidRequest` where nothing could sign it.
    """
    if wanted is None:
        return ""
    here = services()
    if not (here.settings.keyring or here.webhook_secrets.keyring(tenant())):
        raise InvalidRequest(
            "This server cannot sign your webhooks: its WEBHOOK_HMAC_SECRET is not set, and you have no "
            "secret of your own here.",
            code="webhook_secret_missing",
        )
    here.outbox.admit(tenant(), here.settings.webhook_max_pending)
    target = here.webhook_urls.admit(wanted.url, tenant())
    return str(Subscription(target, wanted.events, links().base))
