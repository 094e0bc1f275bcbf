"""A webhook delivery of a job, as the API reports it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Delivery:
    """`status` is `pending`, `delivered` or `dead`; `error` says why the last attempt failed."""

    id: str
    job_id: str
    type: str
    url: str
    status: str
    attempts: int
    next_attempt_at: str | None
    response_status: int | None
    error: str | None
    raw: Mapping[str, Any] = field(repr=False)
    """The JSON object as it came."""

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> "Delivery":
        return cls(
            id=value["id"],
            job_id=value["job_id"],
            type=value["type"],
            url=value["url"],
            status=value["status"],
            attempts=value["attempts"],
            next_attempt_at=value.get("next_attempt_at"),
            response_status=value.get("response_status"),
            error=value.get("error"),
            raw=value,
        )
