"""What each engine accepts as `params` and `input`, checked in the API before anything is queued.

No torch here: the API validates with these models, the engines read their fields.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

MAX_STOP_STRINGS = 8
MAX_TEXTS = 512
MAX_MESSAGES = 256

Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Params(BaseModel):
    """Base of every engine's parameters: unknown names and loose types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TextGenerationParams(Params):
    """Sampling for one text. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 are off."""

    max_new_tokens: int = Field(default=128, ge=1, le=1_000_000)
    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0, le=1_000_000)
    repetition_penalty: float = Field(default=1.0, gt=0.0, le=10.0)
    stop: list[Stop] = Field(default_factory=list, max_length=MAX_STOP_STRINGS)
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)


class EmbeddingParams(Params):
    """`normalize` overrides what the model's own configuration says."""

    normalize: bool | None = None


class EchoParams(Params):
    """`step_ms` is the time one piece takes, `repeat` how often the prompt is said."""

    step_ms: float | None = Field(default=None, ge=0.0, le=60_000.0)
    repeat: int = Field(default=1, ge=1, le=100_000)


class Message(Params):
    """One turn of a chat."""

    role: Annotated[str, StringConstraints(pattern=r"^(system|user|assistant|tool)$")]
    content: str


class Chat(Params):
    """A conversation, put through the model's own chat template."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)


Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]

PARAMS: dict[str, TypeAdapter[Any]] = {
    "text-generation": TypeAdapter(TextGenerationParams),
    "embedding": TypeAdapter(EmbeddingParams),
    "echo": TypeAdapter(EchoParams),
}
INPUTS: dict[str, TypeAdapter[Any]] = {
    "text-generation": TypeAdapter(str | Chat),
    "embedding": TypeAdapter(str | Texts),
    "echo": TypeAdapter(str),
}
"""An engine that is not listed takes any JSON as `input` and any object as `params`."""
