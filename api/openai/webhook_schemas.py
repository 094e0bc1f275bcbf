"""What the routes of webhook endpoints answer, for the OpenAPI document."""

from typing import Literal

from pydantic import BaseModel, Field


class WebhookEndpoint(BaseModel):
    """Where events are sent. Times are in seconds since 1970."""

    id: str
    object: Literal["webhook_endpoint"]
    url: str
    name: str
    event_types: list[str]
    created_at: int
    updated_at: int
    signing_secret_hint: str | None = Field(description="The end of its secret.")


class EndpointWithSecret(WebhookEndpoint):
    signing_secret: str = Field(description="`whsec_` and base64; not shown again.")


class EndpointList(BaseModel):
    object: Literal["list"]
    data: list[WebhookEndpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedEndpoint(BaseModel):
    id: str
    deleted: Literal[True]
    object: Literal["webhook_endpoint.deleted"]


class EndpointTest(BaseModel):
    """`success`: it has answered, whatever its status."""

    object: Literal["webhook_endpoint.test"]
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True]


class EventTypes(BaseModel):
    object: Literal["list"]
    data: list[str]
