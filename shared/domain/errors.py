"""Every error this system raises on purpose, under one root, and the one table that names them.

`PROBLEMS` is the only list of codes: the API turns it into RFC 9457 problem documents, the store and
the workers write the same codes into a job's `error`, and docs/errors.md is tested against it.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """What a code means to a client: HTTP status, short title, whether trying again may help."""

    status: int
    title: str
    retryable: bool = False


PROBLEMS: dict[str, Problem] = {
    # the request
    "bad_request": Problem(400, "The request is not valid HTTP"),
    "malformed_json": Problem(400, "The body is not valid JSON"),
    "invalid_request": Problem(422, "The request does not fit its schema"),
    "invalid_parameter": Problem(422, "A parameter of the URL or a header is not valid"),
    "invalid_cursor": Problem(422, "The cursor is not one this server gave"),
    "unsupported_media_type": Problem(415, "The body must be application/json"),
    "body_too_large": Problem(413, "The body is larger than this server accepts"),
    "body_timeout": Problem(408, "The body did not arrive in time", retryable=True),
    "unknown_model": Problem(404, "No model has this name"),
    "idempotency_mismatch": Problem(422, "This Idempotency-Key was used with another body"),
    "not_found": Problem(404, "Nothing is here"),
    "job_not_found": Problem(404, "No job has this id"),
    "response_not_found": Problem(404, "No response has this id"),
    "previous_response_not_found": Problem(400, "The response to go on with is gone"),
    "events_expired": Problem(410, "The events of this job have expired"),
    "file_not_found": Problem(404, "No file has this id"),
    "file_in_use": Problem(409, "A batch still reads this file"),
    "batch_not_found": Problem(404, "No batch has this id"),
    "batch_ended": Problem(409, "The batch has ended"),
    "job_not_failed": Problem(409, "The job has not failed"),
    "job_not_terminal": Problem(409, "The job has not ended yet"),
    "input_gone": Problem(409, "The input of this job is no longer kept"),
    "webhook_refused": Problem(422, "This server does not send webhooks to this URL"),
    "webhook_secret_missing": Problem(422, "This server has no secret to sign webhooks with"),
    "api_key_not_found": Problem(404, "No API key has this id"),
    "api_key_ended": Problem(409, "The API key has ended"),
    "webhook_endpoint_not_found": Problem(404, "No webhook endpoint has this id"),
    "too_many_webhook_endpoints": Problem(409, "You have as many webhook endpoints as you may"),
    "webhook_unreachable": Problem(409, "The webhook endpoint did not answer"),
    "unknown_event_type": Problem(422, "No webhook of this type is taken in here"),
    "ingest_not_configured": Problem(404, "This server takes in no webhooks"),
    "method_not_allowed": Problem(405, "This method is not allowed here"),
    # the caller
    "unauthorized": Problem(401, "A valid token is needed"),
    "invalid_signature": Problem(401, "The webhook's signature or timestamp is not valid"),
    "forbidden": Problem(403, "This token may not do that"),
    "rate_limited": Problem(429, "Too many requests", retryable=True),
    "storage_quota_exceeded": Problem(
        429, "Your jobs and results fill your storage", retryable=True
    ),
    "file_quota_exceeded": Problem(429, "Your files fill your storage", retryable=True),
    "too_many_batches": Problem(429, "Too many of your batches are open", retryable=True),
    "webhook_lookups_busy": Problem(
        429, "Names of your webhooks do not resolve in time", retryable=True
    ),
    # the service
    "redis_unavailable": Problem(503, "The job store does not answer", retryable=True),
    "storage_full": Problem(503, "The job store is full", retryable=True),
    "uploads_busy": Problem(503, "Too many files are being uploaded", retryable=True),
    "file_storage_unavailable": Problem(503, "The file storage does not answer", retryable=True),
    "file_storage_full": Problem(503, "The file storage is full", retryable=True),
    "queue_full": Problem(503, "The queue of this model is full", retryable=True),
    "tenant_queue_full": Problem(503, "Too many of your jobs wait for this model", retryable=True),
    "grammars_busy": Problem(503, "Too many grammars are being checked", retryable=True),
    "deadline_unreachable": Problem(
        503, "The job would expire before its turn came", retryable=True
    ),
    "webhook_backlog_full": Problem(503, "Too many webhooks wait to be delivered", retryable=True),
    "model_unavailable": Problem(503, "No worker serves this model now", retryable=True),
    "still_running": Problem(503, "The job goes on", retryable=True),
    "internal_error": Problem(500, "Something broke on this server", retryable=True),
    # how a job may end without success
    "invalid_input": Problem(422, "The model cannot take this input"),
    "invalid_grammar": Problem(422, "The text cannot be held to this grammar"),
    "prompt_too_long": Problem(422, "The prompt is longer than the model takes"),
    "poison_input": Problem(422, "The model fails on this input"),
    "output_too_large": Problem(422, "The output is larger than this server keeps"),
    "engine_error": Problem(502, "The model failed on this job", retryable=True),
    "out_of_memory": Problem(502, "The job does not fit into the model's memory", retryable=True),
    "worker_crashed": Problem(502, "The job was lost to crashes too often"),
    "run_timeout": Problem(504, "The job ran longer than its model allows"),
    "job_canceled": Problem(409, "The job was canceled"),
    "job_expired": Problem(504, "The deadline passed before a result existed"),
}


class JobsError(Exception):
    """The root of all errors raised on purpose. `code` is a key of `PROBLEMS`."""

    code = "internal_error"

    def __init__(self, detail: str, *, code: str | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra
        if code is not None:
            self.code = code

    @property
    def problem(self) -> Problem:
        return PROBLEMS[self.code]

    @property
    def retryable(self) -> bool:
        return self.problem.retryable


class InvalidRequest(JobsError):
    """The request does not fit its schema. `errors` rows are `{loc, msg, type}`."""

    code = "invalid_request"

    def __init__(self, detail: str, errors: list[dict[str, Any]] | None = None, **kw: Any) -> None:
        super().__init__(detail, **kw)
        self.errors = errors or []


class UnknownModel(JobsError):
    code = "unknown_model"


class JobNotFound(JobsError):
    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}. It may have been deleted or have expired.")


class IdempotencyMismatch(JobsError):
    code = "idempotency_mismatch"


class TryLater(JobsError):
    """A refusal for now: the same request may be taken in `retry_after` seconds."""

    def __init__(self, detail: str, retry_after: int, **kw: Any) -> None:
        super().__init__(detail, **kw)
        self.retry_after = retry_after


class QueueFull(TryLater):
    """The model's queue, or with the code `tenant_queue_full` the caller's part of it, is full."""

    code = "queue_full"


class DeadlineUnreachable(TryLater):
    """So many jobs go first that the job would expire while it waits."""

    code = "deadline_unreachable"


class RateLimited(TryLater):
    """The caller has used up a rate limit."""

    code = "rate_limited"


class StorageQuotaExceeded(TryLater):
    """What the caller's tenant has stored fills its part of Redis."""

    code = "storage_quota_exceeded"


class JobNotTerminal(JobsError):
    code = "job_not_terminal"


class JobNotFailed(JobsError):
    code = "job_not_failed"


class InputGone(JobsError):
    """The input of a job was at fault, so it went with the job's end."""

    code = "input_gone"


class EventsExpired(JobsError):
    code = "events_expired"


class StoreUnavailable(JobsError):
    """Redis did not answer within its timeout."""

    code = "redis_unavailable"


class StorageFull(StoreUnavailable):
    """Redis has no memory, or no disk, for anything new."""

    code = "storage_full"


class ModelUnavailable(TryLater):
    """Nobody can run the model's jobs now."""

    code = "model_unavailable"

    def __init__(self, detail: str, retry_after: int = 5) -> None:
        super().__init__(detail, retry_after)


class InputRefused(JobsError):
    """An engine refuses a job's input at the door; the batch never sees it."""

    code = "invalid_input"


class ConfigError(JobsError):
    """A setting or the catalogue is wrong; the message names the place and the value."""
