"""OpenAI's batches: a file of requests, worked on when there is room (`api.batches` does)."""

import time
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from pydantic import Field

from api.http import requests
from api.http.answers import document
from api.http.operations import Answer, Operations, Parameter
from api.http.reply import Reply
from api.http.request_context import RequestContext
from api.intake.submission import digest_of
from api.openai import examples, retries
from api.openai.calls import DIALECT, parsed
from api.openai.files import page
from api.openai.schemas import BatchList, BatchObject
from api.openai.uploads import LEAST_SECONDS, MOST_SECONDS, room
from shared.domain.audit import Action
from shared.domain.batches import MAX_INPUT_BYTES, WINDOW_SECONDS, Batch, new_batch_id
from shared.domain.errors import InvalidRequest
from shared.domain.requests.engine_params import Params
from shared.domain.schemas import MAX_METADATA, Metadata
from shared.domain.wire import Wire

PAGE, MOST_LISTED = 20, 100
TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
_DECODE = msgspec.json.Decoder().decode

batches = Operations("openai_batches", __name__, tag="openai", dialect=DIALECT)

BATCH_ID = Parameter(
    "batch_id",
    "path",
    "The batch's `id`.",
    {"type": "string", "pattern": "^batch_[0-9a-f]{32}$"},
    examples.BATCH_ID,
)


class OutputExpiry(Params):
    """How long the files of the output are kept."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=LEAST_SECONDS, le=MOST_SECONDS)


class BatchRequest(Wire):
    """The body of `POST /v1/batches`."""

    input_file_id: str = Field(max_length=64, description="A file of purpose `batch`.")
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
    completion_window: Literal["24h"]
    metadata: Metadata = Field(default_factory=dict, max_length=MAX_METADATA)
    output_expires_after: OutputExpiry | None = None


@batches.operation(
    "POST",
    "/v1/batches",
    changes=Action.BATCH_CREATE,
    body=BatchRequest,
    body_examples=examples.BATCHED,
    answers={200: Answer("The batch.", BatchObject, examples.BATCH)},
    problems=(
        *("malformed_json", "unsupported_media_type", "body_too_large", "invalid_request"),
        *("file_not_found", "file_quota_exceeded", "file_storage_full", "too_many_batches"),
    ),
)
def create_batch(here: RequestContext) -> Reply:
    """Make a batch

    Its input is looked at after this answers: see `errors` of a batch that has `failed`.
    """
    given = requests.json_object(here)
    return document(_told(begin(here, parsed(BatchRequest, given), given)))


def begin(here: RequestContext, asked: BatchRequest, given: Mapping[str, Any]) -> Batch:
    """The batch that is asked for; `given` is what says whether two requests are the same.

    Raises `JobsError`.
    """
    services, caller = here.services, here.caller
    file = services.files.get(asked.input_file_id, caller.tenant)
    if file.purpose != "batch":
        raise _fault("input_file_id", f"the file has the purpose {file.purpose!r}, not 'batch'")
    if file.bytes > MAX_INPUT_BYTES:
        raise _fault("input_file_id", f"the file has more than {MAX_INPUT_BYTES} bytes")
    # Its output is stored whatever its size is; who has no room for the like of its input waits.
    services.files.require_room(caller.tenant, file.bytes, room(here))
    now = int(time.time())
    batch = Batch(
        id=new_batch_id(),
        tenant=caller.tenant,
        key_id=caller.key_id,
        endpoint=asked.endpoint,
        input_file=file.id,
        input_bytes=file.bytes,
        created=now,
        expires=now + WINDOW_SECONDS,
        metadata=msgspec.json.encode(asked.metadata).decode(),
        output_seconds=asked.output_expires_after.seconds if asked.output_expires_after else 0,
        max_queued=-1 if caller.max_queued is None else caller.max_queued,
        max_bytes=-1 if caller.max_bytes is None else caller.max_bytes,
    )
    digest = digest_of({"asked": given, "by": caller.key_id})
    here.changes(batch.id, file.id, note=batch.endpoint)
    batch_id = services.batches.create(
        batch,
        most_open=services.settings.batch_most_open,
        asked=digest,
        retry=retries.is_retry(here.environ),
    )
    return services.batches.get(batch_id, caller.tenant)


@batches.operation(
    "GET",
    "/v1/batches",
    parameters=(
        Parameter(
            "limit",
            "query",
            "How many at most.",
            {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": PAGE},
            PAGE,
        ),
        Parameter(
            "after",
            "query",
            "The id of the last batch of the page before.",
            {"type": "string", "pattern": "^batch_[0-9a-f]{32}$"},
        ),
    ),
    answers={200: Answer("A page of batches, the newest first.", BatchList, examples.BATCHES)},
    problems=("invalid_parameter", "invalid_cursor"),
)
def list_batches(here: RequestContext) -> Reply:
    """List batches"""
    found, more = here.services.batches.listing(
        here.caller.tenant,
        limit=requests.count(here, "limit", default=PAGE, maximum=MOST_LISTED),
        after=here.request.args.get("after"),
    )
    return document(page([_told(batch) for batch in found], more))


@batches.operation(
    "GET",
    "/v1/batches/{batch_id}",
    parameters=(BATCH_ID,),
    answers={200: Answer("The batch.", BatchObject, examples.BATCH)},
    problems=("batch_not_found",),
)
def get_batch(here: RequestContext, batch_id: str) -> Reply:
    """Get a batch"""
    return document(_told(here.services.batches.get(batch_id, here.caller.tenant)))


@batches.operation(
    "POST",
    "/v1/batches/{batch_id}/cancel",
    changes=Action.BATCH_CANCEL,
    parameters=(BATCH_ID,),
    answers={200: Answer("The batch, which ends soon.", BatchObject, examples.CANCELLING_BATCH)},
    problems=("batch_not_found", "batch_ended"),
)
def cancel_batch(here: RequestContext, batch_id: str) -> Reply:
    """Cancel a batch

    What is finished stays in its output file. May be repeated.
    """
    return document(_told(here.services.batches.cancel(batch_id, here.caller.tenant)))


def _told(batch: Batch) -> dict[str, Any]:
    """A batch as OpenAI's clients see it."""
    times = {f"{name}_at": getattr(batch, f"{name}_at") or None for name in TIMES}
    faults = _DECODE(batch.errors) if batch.errors else None
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": faults} if faults is not None else None,
        "input_file_id": batch.input_file,
        "completion_window": "24h",
        "status": batch.status.value,
        "output_file_id": batch.output_file or None,
        "error_file_id": batch.error_file or None,
        "created_at": batch.created,
        "expires_at": batch.expires,
        **times,
        "request_counts": {"total": batch.total, "completed": batch.done, "failed": batch.bad},
        "metadata": _DECODE(batch.metadata) or None,
    }


def _fault(name: str, message: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: {message}", errors=[{"loc": [name], "msg": message, "type": "value_error"}]
    )
