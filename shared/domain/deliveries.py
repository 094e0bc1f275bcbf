"""Deliveries of webhooks, as they go over the wire."""

from typing import Literal

from pydantic import BaseModel, Field


class Delivery(BaseModel):
    """A webhook of a job, and what became of it. What the receiver answered is not kept."""

    id: str = Field(description="The `webhook-id`; the same at every attempt.")
    object: Literal["delivery"] = "delivery"
    job_id: str = Field(description="The job; of an event of a batch that one's id.")
    type: str = Field(
        description="`job.started`, `job.completed`, or for an endpoint the type of its event."
    )
    url: str
    status: Literal["pending", "delivered", "dead"]
    attempts: int
    created_at: str
    last_attempt_at: str | None = None
    next_attempt_at: str | None = None
    delivered_at: str | None = None
    response_status: int | None = Field(default=None, description="The HTTP status it last got.")
    error: str | None = Field(
        default=None,
        description="Why the last attempt failed: `dns`, `address` (not public), `deleted` (the endpoint is "
        "gone), `connect`, `tls`, `timeout`, `protocol`, `redirect`, `status`, `unsigned` (the server has no "
        "secret any more), or `too_late` when its receiver was never well enough to be tried again.",
    )


class DeliveryList(BaseModel):
    data: list[Delivery]
