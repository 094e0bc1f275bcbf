"""What goes over the wire: requests and jobs. API, workers, OpenAPI and client read the same models."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from pydantic import (
    AfterValidator,
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
from pydantic_core import PydanticCustomError

from shared.domain.requests.inputs import LARGEST_TOKEN_ID, MAX_PROMPT_TOKENS, TOKEN_IDS_SCHEMA
from shared.domain.requests.request_faults import invalid
from shared.domain.states import JobState
from shared.domain.wire import NULL, Wire

MAX_METADATA = 16
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


def _text_or_ids(given: Any) -> Any:
    """A prompt. Which of the two a model takes, and what its ids may be, is its engine's to say."""
    if isinstance(given, str | list):
        return given
    raise PydanticCustomError("string_type", "Input should be a string or a list of token ids")


def _pairs(given: Any) -> Any:
    """Those of a job's metadata that are not null. Counted before any of them is looked at."""
    if not isinstance(given, dict):
        return given
    found = {name: value for name, value in given.items() if value is not None}
    if len(found) > MAX_METADATA:
        raise PydanticCustomError("too_long", f"at most {MAX_METADATA} pairs, not {len(found)}")
    return found


Metadata = Annotated[dict[MetadataKey, MetadataValue], BeforeValidator(_pairs)]


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
    prompt: Annotated[
        Any,
        AfterValidator(_text_or_ids),
        WithJsonSchema({"anyOf": [{"type": "string"}, TOKEN_IDS_SCHEMA, NULL]}),
    ] = Field(
        default=None,
        description="Text for the model. A model that generates text also takes a list of its token ids.",
    )
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
    metadata: Metadata = Field(
        default_factory=dict, max_length=MAX_METADATA, description="Yours; comes back with the job."
    )

    @model_validator(mode="after")
    def _one_input(self) -> "JobRequest":
        given = self.model_fields_set
        if ("prompt" in given) == ("input" in given):
            raise ValueError("Give exactly one of 'prompt' and 'input'")
        return self


class CheckedRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body in which `JobRequest` finds no fault.

    What most bodies hold is checked by this type itself, for a tenth of what pydantic takes. It refuses more
    than that one, and never takes what that one refuses (`tests/shared/domain/test_schemas.py`).
    """

    model: Annotated[str, Meta(min_length=1, max_length=128)]
    prompt: (
        str
        | Annotated[
            list[Annotated[int, Meta(ge=0, le=LARGEST_TOKEN_ID)]],
            Meta(min_length=1, max_length=MAX_PROMPT_TOKENS),
        ]
        | None
    ) = None
    input: Any = None
    params: dict[str, Any] = {}
    priority: Priority = "normal"
    expires_in: Annotated[float, Meta(gt=0, le=MAX_EXPIRES_IN)] | None = None
    webhook: WebhookRequest | None = None
    metadata: Annotated[
        dict[
            Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=512)]
        ],
        Meta(max_length=MAX_METADATA),
    ] = {}

    @classmethod
    def of(cls, value: Any) -> "CheckedRequest":
        """Check a decoded body. Raises `InvalidRequest` with every fault found."""
        try:
            found = msgspec.convert(value, cls)
            if (found.prompt is None) != (found.input is None):
                return found
        except msgspec.ValidationError:
            # It names one fault and stops; the full check below names all of them.
            pass
        try:
            return cls(**dict(JobRequest.model_validate(value)))
        except ValidationError as error:
            raise invalid(error) from None


class JobError(BaseModel):
    """Why a job did not succeed. `code` stands in the table of codes."""

    code: str
    message: str
    retryable: bool


class Usage(BaseModel):
    """What a job used; token counts where the model has tokens.

    `cached_tokens` of the prompt were not computed again. Of `drafted_tokens` that were tried ahead, which
    look-up decoding does, `accepted_tokens` were right. `first_token_ms` is the time from the job's
    creation to the first piece of its output. `device_seconds` is its share of the engine's steps, over
    all attempts that their worker could speak of.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    drafted_tokens: int | None = None
    accepted_tokens: int | None = None
    queue_ms: float | None = None
    run_ms: float | None = None
    first_token_ms: float | None = None
    device_seconds: float | None = None
    batch_size: int | None = None
    attempts: int = 0


class EarlierAttempt(BaseModel):
    """An attempt that did not end its job: another one was to come."""

    attempt: int
    started_at: str
    ended_at: str
    reason: str = Field(
        description="The code of what ended it, or `drained`: its worker ended and gave the job back."
    )


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
    earlier_attempts: list[EarlierAttempt] | None = Field(
        default=None,
        exclude_if=lambda attempts: attempts is None,
        description="The newest ten attempts that did not end it, oldest first; else left out.",
    )
    urls: JobUrls | None = None


class JobList(BaseModel):
    data: list[Job]
    next_cursor: str | None = None


class IngestEvent(Wire):
    """The body of `POST /webhooks/ingest`."""

    type: Literal["inference.requested"]
    timestamp: str | None = Field(default=None, description="By the standard; not looked at.")
    data: JobRequest


def rfc3339(epoch_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 UTC with milliseconds."""
    return _to_the_second(epoch_ms // 1000) + _MILLISECONDS[epoch_ms % 1000]


def timestamp(moment: float | None) -> str | None:
    """Seconds since 1970 as RFC 3339 UTC; None where there is no such moment."""
    return None if moment is None else rfc3339(int(moment * 1000))


_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def epoch_ms(text: str) -> int | None:
    """An RFC 3339 time of any zone as milliseconds since 1970; None where it is none."""
    known = _MOMENT.fullmatch(text)
    try:
        return int(datetime.fromisoformat(known[0].upper()).timestamp() * 1000) if known else None
    except ValueError:
        return None  # In form a time, such as one of February 30.


_MILLISECONDS = [f".{ms:03d}Z" for ms in range(1000)]


@lru_cache(maxsize=256)
def _to_the_second(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")
