"""Parameters that several operations share."""

from api.http.operations import Parameter
from api.http.requests import MAX_WAIT

EVENT_ID = "^([0-9]{1,9}-[0-9]{1,9})?$"
"""The pattern of event ids; none, as of an EventSource that has got nothing yet, is the beginning."""

JOB_ID = Parameter(
    "job_id",
    "path",
    "The job's `id`.",
    {"type": "string", "pattern": "^job_[0-9a-f]{32}$"},
    "job_019aa61c4f3b8f0e3c5d7a9b1e2f4a6c",
)
WAIT = Parameter(
    "wait",
    "query",
    f"Hold the answer until the job ends, at most so many seconds (more than {MAX_WAIT} count as "
    f"{MAX_WAIT}).",
    {"type": "number", "minimum": 0, "default": 0},
    10,
)
TIMEOUT = Parameter(
    "timeout",
    "query",
    "How many seconds to wait for the job's end.",
    {"type": "number", "minimum": 0, "maximum": 600, "default": 60},
    60,
)
PAGE = 100
LIMIT = Parameter(
    "limit",
    "query",
    "How many at most.",
    {"type": "integer", "minimum": 1, "maximum": PAGE, "default": PAGE},
    PAGE,
)
CURSOR = Parameter(
    "cursor",
    "query",
    "`next_cursor` of the page before.",
    {"type": "string", "pattern": "^job_[0-9a-f]{32}$"},
)
MOMENT = {"type": "string", "format": "date-time"}
"""The schema of a time in the query."""
PREFER = Parameter(
    "Prefer",
    "header",
    f"`wait=N` (RFC 7240): hold the answer up to N seconds, at most {MAX_WAIT}, for the job to end; `wait` "
    "alone holds it as long as the server does. Other preferences are ignored.",
    example="wait=10",
)
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Repeat the call with the same key and body within a day and get the same job.",
    {"type": "string", "pattern": "^[ -~]{1,255}$"},
    "order-4711",
)
LAST_EVENT_ID = Parameter(
    "Last-Event-ID",
    "header",
    "The id of the last event that you got; read on after it.",
    {"type": "string", "pattern": EVENT_ID},
    example="1-17",
)
TRACEPARENT = Parameter(
    "traceparent",
    "header",
    "W3C trace context; the job carries it on.",
    example="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)

SUBMISSION_PROBLEMS = (
    *("malformed_json", "unsupported_media_type", "body_too_large", "invalid_request"),
    *(
        "prompt_too_long",
        "invalid_parameter",
        "unknown_model",
        "file_not_found",
        "idempotency_mismatch",
    ),
    *("queue_full", "tenant_queue_full", "deadline_unreachable"),
    *("webhook_refused", "webhook_secret_missing", "webhook_backlog_full", "webhook_lookups_busy"),
    *("storage_quota_exceeded", "storage_full"),
)
"""Why a call that makes a job may make none."""
