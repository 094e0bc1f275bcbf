"""What goes over the wire: requests and jobs. API, workers, OpenAPI and client read the same models."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    JsonValue,
    SkipValidation,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from shared.domain.catalog import Catalog, ModelSpec
from shared.domain.errors import InvalidRequest
from shared.domain.params import INPUTS, TEXT_ENGINES, checked
from shared.domain.states import JobState
from shared.domain.wire import MAX_FAULTS_SHOWN, NULL, Wire

MAX_METADATA = 16
MAX_NAME_SHOWN = 100
"""Characters of a name of the caller's that a refusal repeats."""
MAX_EXPIRES_IN = 7 * 24 * 3600
DEFAULT_EXPIRES_IN = 24 * 3600

WebhookEvent = Literal["started", "completed"]
Priority = Literal["high", "normal", "low"]
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=64)]
MetadataValue = Annotated[
    str,
    StringConstraints(max_length=512),
    WithJsonSchema({"anyOf": [{"type": "string", "maxLength": 512}, NULL]}),
]

Json = Annotated[JsonValue, SkipValidation]
"""What a JSON decoder has made, so nothing is left to check."""


def _pairs(given: Any) -> Any:
    """Those of a job's metadata that are not null. Counted before any of them is looked at."""
    if not isinstance(given, dict):
        return given
    found = {name: value for name, value in given.items() if value is not None}
    if len(found) > MAX_METADATA:
        raise PydanticCustomError("too_long", f"at most {MAX_METADATA} pairs, not {len(found)}")
    return found


class WebhookRequest(Wire):
    """Whom to tell of a job's start and end."""

    url: str = Field(
        min_length=1,
        max_length=2048,
        description="An https URL on the public Internet, or one that this server's operator allows.",
    )
    events: list[WebhookEvent] = Field(
        default=["started", "completed"],
        min_length=1,
        max_length=2,
        description="`started`: its first attempt begins. `completed`: it has ended, well or not.",
    )


class JobRequest(Wire):
    """The body of `POST /v1/jobs`. Exactly one of `prompt` and `input` is given."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(
        description="A name from `GET /v1/models`."
    )
    prompt: str | None = Field(default=None, description="Text for the model.")
    input: Json = Field(
        default=None,
        description="Instead of `prompt`: whatever the model's engine takes, such as a list of texts "
        "to embed or the messages of a chat.",
    )
    params: dict[str, Json] = Field(default_factory=dict)
    priority: Priority = Field(default="normal", description="Higher classes go first.")
    expires_in: float | None = Field(
        default=None,
        gt=0,
        le=MAX_EXPIRES_IN,
        description="Seconds until the job expires without a result; a day when not given.",
    )
    webhook: WebhookRequest | None = Field(
        default=None, description="Sends the job there by Standard Webhooks; see docs/webhooks.md."
    )
    metadata: Annotated[dict[MetadataKey, MetadataValue], BeforeValidator(_pairs)] = Field(
        default_factory=dict, max_length=MAX_METADATA, description="Yours; comes back with the job."
    )

    @model_validator(mode="after")
    def _one_input(self) -> "JobRequest":
        given = self.model_fields_set
        if ("prompt" in given) == ("input" in given):
            raise ValueError("Give exactly one of 'prompt' and 'input'")
        return self

    @property
    def content(self) -> JsonValue:
        """The prompt or the input, whichever was given."""
        return self.prompt if self.prompt is not None else self.input


class JobError(BaseModel):
    """Why a job did not succeed. `code` stands in the table of codes."""

    code: str
    message: str
    retryable: bool


class Usage(BaseModel):
    """What a job used; token counts where the model has tokens.

    `cached_tokens` of the prompt were not computed again. `first_token_ms` is the time from the job's
    creation to the first piece of its output. `device_seconds` is its share of the engine's steps, over
    all attempts that their worker could speak of.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    queue_ms: float | None = None
    run_ms: float | None = None
    first_token_ms: float | None = None
    device_seconds: float | None = None
    batch_size: int | None = None
    attempts: int = 0


class JobUrls(BaseModel):
    get: str
    events: str
    cancel: str


class Job(BaseModel):
    """A job as clients see it."""

    id: str
    object: Literal["job"] = "job"
    model: str
    status: JobState
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    attempt: int = 0
    queue_position: int | None = None
    estimated_start: str | None = Field(
        default=None,
        description="While it waits: when it may start, as fast as the queue drains now.",
    )
    cancel_requested: bool = False
    cached: bool = False
    output: JsonValue = None
    error: JobError | None = None
    usage: Usage | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    fallback_from: str | None = Field(
        default=None,
        exclude_if=lambda model: model is None,
        description="The model that was asked for, where `model` stands in for it; else left out.",
    )
    urls: JobUrls | None = None


class JobList(BaseModel):
    data: list[Job]
    next_cursor: str | None = None


class Delivery(BaseModel):
    """A webhook of a job, and what became of it. What the receiver answered is not kept."""

    id: str = Field(description="The `webhook-id`; the same at every attempt.")
    object: Literal["delivery"] = "delivery"
    job_id: str
    type: Literal["job.started", "job.completed"]
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
        description="Why the last attempt failed: `dns`, `address` (not public), `connect`, `tls`, "
        "`timeout`, `protocol`, `redirect`, `status`, `unsigned` (the server has no "
        "secret any more), or `too_late` when its receiver was never well enough to be tried again.",
    )


class DeliveryList(BaseModel):
    data: list[Delivery]


class IngestEvent(Wire):
    """The body of `POST /webhooks/ingest`."""

    type: Literal["inference.requested"]
    timestamp: str | None = Field(default=None, description="By the standard; not looked at.")
    data: JobRequest


def parse_event(value: dict[str, Any]) -> dict[str, Any]:
    """The job request in a message. Raises `InvalidRequest` with every fault found."""
    try:
        IngestEvent.model_validate(value)
    except ValidationError as error:
        raise invalid(error, ()) from None
    data: dict[str, Any] = value["data"]
    return data


def parse_request(value: Any, catalog: Catalog) -> tuple[JobRequest, ModelSpec, dict[str, Any]]:
    """Check a decoded body against the schema and its model's engine.

    Returns the request, the model's entry, and the params with the engine's defaults filled in.
    Raises `InvalidRequest` with every fault found, or `UnknownModel`.
    """
    try:
        request = JobRequest.model_validate(value)
    except ValidationError as error:
        raise invalid(error, ()) from None
    spec = catalog.get(request.model)
    try:
        params = checked(spec.engine, request.params)
    except ValidationError as error:
        raise invalid(error, ("params",)) from None
    content = INPUTS.get(spec.engine)
    if content is not None:
        field = "prompt" if request.prompt is not None else "input"
        try:
            content.validate_python(request.content)
        except ValidationError as error:
            raise invalid(error, (field,), skip=1) from None
    asked = params["max_new_tokens"] if spec.engine in TEXT_ENGINES else None
    if asked is not None and asked > spec.limits.max_new_tokens:
        raise InvalidRequest(
            f"max_new_tokens must be at most {spec.limits.max_new_tokens} for {spec.name}.",
            errors=[
                {
                    "loc": ["params", "max_new_tokens"],
                    "msg": f"must be at most {spec.limits.max_new_tokens}",
                    "type": "less_than_equal",
                }
            ],
        )
    return request, spec, params


def invalid(error: ValidationError, prefix: tuple[str, ...] = (), skip: int = 0) -> InvalidRequest:
    """The faults of a body that does not fit its schema, at `prefix` in what the caller has sent.

    `skip`: how many of each path's first parts are not the caller's: the kind of an input."""
    faults = [
        (_message(row), [*prefix, *map(_shown, row["loc"][skip:])], row["type"])
        for row in error.errors(include_url=False, include_input=False)[:MAX_FAULTS_SHOWN]
    ]
    message, place, _ = faults[0]
    where = ".".join(map(str, place))
    return InvalidRequest(
        f"{where}: {message}" if where else message,
        errors=[{"loc": loc, "msg": msg, "type": kind} for msg, loc, kind in faults],
    )


def _message(row: ErrorDetails) -> str:
    """What is wrong; in our own words where one of our validators found it."""
    return str(row["ctx"]["error"]) if row["type"] == "value_error" else row["msg"]


def _shown(part: str | int) -> str | int:
    """A part of a path, bounded: its names are the caller's."""
    return (
        part
        if isinstance(part, int) or len(part) <= MAX_NAME_SHOWN
        else part[:MAX_NAME_SHOWN] + "…"
    )


def rfc3339(epoch_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 UTC with milliseconds."""
    return _to_the_second(epoch_ms // 1000) + _MILLISECONDS[epoch_ms % 1000]


_MILLISECONDS = [f".{ms:03d}Z" for ms in range(1000)]


@lru_cache(maxsize=256)
def _to_the_second(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")
