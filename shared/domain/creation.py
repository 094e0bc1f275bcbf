"""What becomes of a job that is to be made: one of these values, as `JobStore.create` returns it.

`id` is the job's; `quota` is what the rate limits say of its client, None where nothing was to be charged.
"""

from enum import StrEnum

import msgspec

from shared.domain.errors import IdempotencyMismatch, ModelUnavailable, TryLater
from shared.domain.quotas import Decision
from shared.domain.sharing import Result


class Created(msgspec.Struct, frozen=True):
    """The job waits. `ring`: push a doorbell for its model. `position` is how many jobs go before it and
    `start` when it is estimated to start (ms), if that can be told; None where an earlier call made it.
    """

    id: str
    created_ms: int
    ring: bool
    position: int | None = None
    start: int | None = None
    quota: Decision | None = None


class Followed(msgspec.Struct, frozen=True):
    """The job waits for the result of one that works on the same."""

    id: str
    created_ms: int
    quota: Decision | None = None


class Cached(msgspec.Struct, frozen=True):
    """The job has ended with `result`, which another one that asked the same had brought."""

    id: str
    created_ms: int
    result: Result
    quota: Decision | None = None


class Replayed(msgspec.Struct, frozen=True):
    """An earlier request with the same Idempotency-Key made the job `id`."""

    id: str
    quota: Decision | None = None


class Mismatched(msgspec.Struct, frozen=True):
    """The Idempotency-Key was used for the job `id`, with another body."""

    id: str
    quota: Decision | None = None

    def to_error(self) -> IdempotencyMismatch:
        return IdempotencyMismatch(
            "The Idempotency-Key was used before with another body. Use a new key, "
            "or send the body of the first request."
        )


class Reason(StrEnum):
    """Why a job is not taken now. The values are codes of `shared.domain.errors.PROBLEMS`."""

    MODEL_UNAVAILABLE = "model_unavailable"
    QUEUE_FULL = "queue_full"
    TENANT_QUEUE_FULL = "tenant_queue_full"
    DEADLINE_UNREACHABLE = "deadline_unreachable"
    STORAGE_QUOTA_EXCEEDED = "storage_quota_exceeded"


class Refused(msgspec.Struct, frozen=True):
    """No job was made; the same request may be taken in `retry_after` seconds."""

    id: str
    reason: Reason
    detail: str
    retry_after: int
    quota: Decision | None = None

    def to_error(self) -> TryLater:
        if self.reason is Reason.MODEL_UNAVAILABLE:
            return ModelUnavailable(self.detail, self.retry_after)
        return TryLater(self.detail, self.retry_after, code=self.reason.value)


class Limited(msgspec.Struct, frozen=True):
    """No job was made: its client has used up the rate limit `quota.refused`."""

    id: str
    quota: Decision


Stored = Created | Followed | Cached | Replayed
Outcome = Stored | Refused | Mismatched | Limited
