"""Which secrets sign a message of the outbox."""

from collections.abc import Callable

from shared.webhooks.bodies import PREDICTION, TEXT_PREDICTION
from shared.webhooks.endpoints import Endpoints
from shared.webhooks.outbox import Message
from shared.webhooks.secrets import WebhookSecrets
from shared.webhooks.signing import Keyring

Signer = Callable[[Message], Keyring | None]
"""What a message is signed with. An empty keyring: nothing here can sign it; None: nobody is to get it."""


def signer(secrets: WebhookSecrets, endpoints: Endpoints) -> Signer:
    """An endpoint's messages are signed with its own secrets, predictions with those that their tenant is
    told, all others with the tenant's or the server's.
    """

    def of(message: Message) -> Keyring | None:
        if message.endpoint:
            return endpoints.keyring(message.tenant, message.endpoint)
        if message.form in (PREDICTION, TEXT_PREDICTION):
            return secrets.told_keyring(message.tenant)
        return secrets.keyring(message.tenant)

    return of
