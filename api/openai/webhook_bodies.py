"""What `/v1/webhook_endpoints` is sent: new endpoints, changes, rotations of secrets, trials."""

from typing import Literal

from pydantic import Field

from shared.domain.wire import Wire
from shared.webhooks.endpoints import EVENTS

EventType = Literal[
    "response.completed",
    "response.failed",
    "response.cancelled",
    "response.incomplete",
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
]


class NewEndpoint(Wire):
    """The body of `POST /v1/webhook_endpoints`."""

    url: str = Field(
        min_length=1,
        max_length=2048,
        description="An https URL on the public Internet, or one that this server's operator allows.",
    )
    name: str = Field(min_length=1, max_length=256)
    event_types: list[EventType] = Field(min_length=1, max_length=len(EVENTS))


class ChangedEndpoint(Wire):
    """The body of `POST /v1/webhook_endpoints/{endpoint_id}`: what is left out stays as it is."""

    url: str | None = Field(default=None, min_length=1, max_length=2048)
    name: str | None = Field(default=None, min_length=1, max_length=256)
    event_types: list[EventType] | None = Field(
        default=None, min_length=1, max_length=len(EVENTS), description="All of them, anew."
    )


class Rotation(Wire):
    """The body of `POST /v1/webhook_endpoints/{endpoint_id}/rotate_secret`."""

    keep_old_secret_active_for_24_hours: bool | None = Field(
        default=None,
        description="The old secret signs beside the new one; if left out it ends now.",
    )


class Trial(Wire):
    """The body of `POST /v1/webhook_endpoints/{endpoint_id}/test`."""

    event_type: EventType
