"""What requests for a text have in common: how it is sampled, streamed and scheduled."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from shared.domain.schemas import Json, MetadataKey, MetadataValue, Priority
from shared.domain.text_generation_params import Stop
from shared.domain.wire import Wire

Tier = Literal["auto", "default", "flex", "scale", "priority", "fast"]
PRIORITIES: Mapping[str, Priority] = {"priority": "high", "fast": "high", "flex": "low"}
"""By service tier; all others are normal."""
TIERS: Mapping[Priority, str] = {"high": "priority", "normal": "default", "low": "flex"}
DEFAULTS: Mapping[str, float] = {"temperature": 1.0, "top_p": 1.0}
"""OpenAI's, where neither the request nor the model says anything."""
MODELS_OWN = ("temperature", "top_p", "top_k", "min_p")
"""What a model's own generation settings say of sampling, which native routes do not look at."""

Ignored = Json
"""A documented member that cannot mean anything here."""


class StreamOptions(Wire):
    """How a stream is told. `include_usage`: one chunk more, with the usage."""

    include_usage: bool = False
    include_obfuscation: Ignored = None


class TextRequest(Wire):
    """The members of chats and completions alike. `NAMES` maps OpenAI's names to native params.

    The last six are not OpenAI's: other servers of its API take them, and clients send them as `extra_body`.
    """

    NAMES: ClassVar[Mapping[str, str]] = {
        **{
            name: name for name in ("temperature", "top_p", "presence_penalty", "frequency_penalty")
        },
        **{name: name for name in ("stop", "seed", "n", "logit_bias", "top_k", "min_p")},
        **{name: name for name in ("repetition_penalty", "stop_token_ids", "min_tokens")},
        **{name: name for name in ("ignore_eos", "skip_special_tokens", "bad_words")},
        "max_tokens": "max_new_tokens",
    }

    model: str = Field(min_length=1, max_length=128, description="A name from `GET /v1/models`.")
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    stop: list[Stop] = Field(default_factory=list)
    seed: int | None = Field(default=None, description="Negative ones are taken for none.")
    n: int | None = Field(default=None, ge=1)
    logit_bias: dict[str, float] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: Ignored = None
    service_tier: Tier = "auto"
    metadata: dict[MetadataKey, MetadataValue] | None = Field(default=None, max_length=16)
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop_token_ids: list[int] = Field(default_factory=list)
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    bad_words: list[Stop] = Field(default_factory=list)

    @model_validator(mode="after")
    def _streams(self) -> "TextRequest":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream: true")
        return self

    @property
    def priority(self) -> Priority:
        return PRIORITIES.get(self.service_tier, "normal")

    @property
    def tells_usage(self) -> bool:
        """Whether a stream ends with a chunk of the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def params(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """The native params. `model` is what the model's own settings say of sampling, by the same names."""
        own = {name: model[name] for name in MODELS_OWN if model.get(name) is not None}
        given = {
            native: value
            for name, native in self.NAMES.items()
            if (value := getattr(self, name)) is not None and value != []
        }
        if given.get("seed", 0) < 0:
            del given["seed"]
        return {**DEFAULTS, **own, **given}

    def job_request(self, **content: Any) -> dict[str, Any]:
        """The body of `POST /v1/jobs` that asks the same. `content`: `prompt` or `input`, and `params`."""
        named = {"metadata": self.metadata} if self.metadata else {}
        return {"model": self.model, "priority": self.priority, **content, **named}
