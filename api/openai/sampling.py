"""What requests for a text have in common: how it is sampled, streamed and scheduled."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from shared.domain.requests.engine_params import Params
from shared.domain.requests.inputs import whole_ids
from shared.domain.requests.text_generation_params import (
    BIASES_SCHEMA,
    MAX_BAD_WORDS,
    MAX_BIASES,
    MAX_CHOICES,
    MAX_STOP_STRINGS,
    MAX_STOP_TOKENS,
    Bias,
    Stop,
    TokenId,
    TokenName,
)
from shared.domain.schemas import MAX_METADATA, Json, Metadata, Priority
from shared.domain.wire import Wire

MOST_TOKENS = 1_000_000
"""What a request may ask for at most; a model's limit is less."""
Tier = Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"]
PRIORITIES: Mapping[str, Priority] = {
    **dict.fromkeys(("priority", "fast", "ultrafast"), "high"),
    "flex": "low",
}
"""By service tier; all others are normal."""
TIERS: Mapping[Priority, str] = {"high": "priority", "normal": "default", "low": "flex"}
DEFAULTS: Mapping[str, float] = {"temperature": 1.0, "top_p": 1.0}
"""OpenAI's, where neither the request nor the model says anything."""
MODELS_OWN = ("temperature", "top_p", "top_k", "min_p")
"""What a model's own generation settings say of sampling, which native routes do not look at."""

IgnoredText = str | None
IgnoredObject = dict[str, Json] | None
"""A documented member that cannot mean anything here."""


def refused(why: str) -> Any:
    """The type of a documented member that would change what an answer means: it must be null."""

    def refuse(_given: Any) -> Any:
        raise PydanticCustomError("refused", "cannot be used: {why}", {"why": why})

    return Annotated[None, BeforeValidator(refuse)]


class StreamOptions(Wire):
    """How a stream is told. `include_usage`: one chunk more, with the usage."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Sampled(Params):
    """The members of all requests for texts alike. `NAMES` maps OpenAI's names to native params.

    The last eight are not OpenAI's: other servers of its API take them, and clients send them as
    `extra_body`.
    """

    NAMES: ClassVar[Mapping[str, str]] = {
        **{
            name: name for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty")
        },
        **{name: name for name in ("stop", "seed", "logit_bias", "top_k", "min_p")},
        **{name: name for name in ("repetition_penalty", "stop_token_ids", "min_tokens")},
        **{name: name for name in ("ignore_eos", "skip_special_tokens", "bad_words")},
    }

    model: str = Field(min_length=1, max_length=128, description="A name from `GET /v1/models`.")
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    stop: list[Stop] = Field(default_factory=list, max_length=MAX_STOP_STRINGS)
    seed: int | None = Field(
        default=None,
        ge=-(2**63 - 1),
        le=2**63 - 1,
        description="Negative ones are taken for none.",
    )
    logit_bias: Annotated[dict[TokenName, Bias], WithJsonSchema(BIASES_SCHEMA)] = Field(
        default_factory=dict, max_length=MAX_BIASES
    )
    stream: bool = False
    user: IgnoredText = None
    service_tier: Tier = "auto"
    metadata: Metadata = Field(default_factory=dict, max_length=MAX_METADATA)
    top_k: int | None = Field(default=None, ge=0, le=1_000_000)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    stop_token_ids: Annotated[list[TokenId], BeforeValidator(whole_ids)] = Field(
        default_factory=list, max_length=MAX_STOP_TOKENS
    )
    min_tokens: int | None = Field(default=None, ge=0, le=MOST_TOKENS)
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    bad_words: list[Stop] = Field(default_factory=list, max_length=MAX_BAD_WORDS)

    @property
    def priority(self) -> Priority:
        return PRIORITIES.get(self.service_tier, "normal")

    def params(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """The native params. `model` is what the model's own settings say of sampling, by the same names."""
        own = {name: model[name] for name in MODELS_OWN if model.get(name) is not None}
        given = {
            native: value
            for name, native in self.NAMES.items()
            if (value := getattr(self, name)) not in (None, [], {})
        }
        if given.get("seed", 0) < 0:
            del given["seed"]
        return {**DEFAULTS, **own, **given}

    def job_request(self, **content: Any) -> dict[str, Any]:
        """The body of `POST /v1/jobs` that asks the same. `content`: `prompt` or `input`, and `params`."""
        named = {"metadata": self.metadata} if self.metadata else {}
        return {"model": self.model, "priority": self.priority, **content, **named}


class TextRequest(Sampled):
    """The members of chats and completions alike."""

    NAMES: ClassVar[Mapping[str, str]] = {
        **Sampled.NAMES,
        "n": "n",
        "max_tokens": "max_new_tokens",
    }

    max_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    stream_options: StreamOptions | None = None

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with a chunk of the usage."""
        return self.stream_options is not None and self.stream_options.include_usage is True
