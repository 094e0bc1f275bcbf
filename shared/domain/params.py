"""What each engine accepts as `params` and `input`, checked in the API before anything is queued.

No torch here: the API validates with these models, the engines read their fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    Discriminator,
    FailFast,
    Field,
    StringConstraints,
    Tag,
    TypeAdapter,
    model_validator,
)

from shared.domain.wire import Wire

MAX_STOP_STRINGS = 8
MAX_STOP_TOKENS = 32
MAX_TOP_LOGPROBS = 20
MAX_TEXTS = 512
MAX_MESSAGES = 256
MAX_PROMPT_NAME = 128

Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Params(Wire):
    """Base of every engine's parameters."""

    @model_validator(mode="before")
    @classmethod
    def _whole_numbers(cls, given: Any) -> Any:
        """1.0 is an integer to JSON Schema, so it is one here."""
        if not isinstance(given, dict):
            return given
        return {
            name: int(value) if isinstance(value, float) and value.is_integer() else value
            for name, value in given.items()
        }


class TextGenerationParams(Params):
    """Sampling for one text. `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 are off."""

    max_new_tokens: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="At most the model's limit. When not given: that limit, or what the prompt leaves of "
        "the model's context where that is less.",
    )
    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0, le=1_000_000)
    min_p: float = Field(
        default=0.0, ge=0.0, le=1.0, description="As a share of the likeliest token's probability."
    )
    repetition_penalty: float | None = Field(
        default=None,
        gt=0.0,
        le=10.0,
        description="Divides the score of what prompt or text hold. Left out: the model's own, else 1.",
    )
    presence_penalty: float = Field(
        default=0.0, ge=-2.0, le=2.0, description="Taken off once from what the text holds."
    )
    frequency_penalty: float = Field(
        default=0.0, ge=-2.0, le=2.0, description="Taken off for each time that the text holds it."
    )
    stop: list[Stop] = Field(default_factory=list, max_length=MAX_STOP_STRINGS)
    stop_token_ids: list[TokenId] = Field(
        default_factory=list,
        max_length=MAX_STOP_TOKENS,
        description="Tokens that end the text, as the model's own end token does.",
    )
    skip_special_tokens: bool = Field(
        default=True,
        description="false: the text shows special tokens, such as markers of tool calls, as the tokenizer "
        "spells them; the token that ends the text is never shown.",
    )
    logprobs: bool = Field(
        default=False, description="Adds `logprobs` to the output, one entry a generated token."
    )
    top_logprobs: int = Field(
        default=0, ge=0, le=MAX_TOP_LOGPROBS, description="Alternatives in each entry."
    )
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    speculation: bool = Field(
        default=True,
        description="false: never try several tokens at once. The text is the same either way.",
    )

    @model_validator(mode="after")
    def _alternatives_of_something(self) -> "TextGenerationParams":
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self


class EmbeddingParams(Params):
    """`normalize` overrides what the model's own configuration says."""

    normalize: bool | None = None
    prompt_name: str | None = Field(
        default=None,
        max_length=MAX_PROMPT_NAME,
        description="Which of the model's own prompts stands before each text; its default if left out.",
    )


class EchoParams(Params):
    """`step_ms` is the time one piece takes, `repeat` how often the prompt is said."""

    step_ms: float | None = Field(default=None, ge=0.0, le=60_000.0)
    repeat: int = Field(default=1, ge=1, le=100_000)


class Message(Wire):
    """One turn of a chat."""

    role: Annotated[str, StringConstraints(pattern=r"^(system|user|assistant|tool)$")]
    content: str


class Chat(Wire):
    """A conversation, put through the model's own chat template. Faults are told of its first bad turn."""

    messages: Annotated[list[Message], FailFast()] = Field(min_length=1, max_length=MAX_MESSAGES)


Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]


def _one_of(words: str) -> Discriminator:
    """Told apart by JSON type: a fault is then said of the kind that was sent, and only of it."""
    return Discriminator(
        lambda value: _KINDS.get(type(value), ""),
        custom_error_type="input_type",
        custom_error_message=f"Input should be {words}",
    )


_KINDS: dict[type, str] = {str: "text", list: "texts", dict: "chat"}
_Text = Annotated[str, Tag("text")]
TextOrChat = Annotated[
    _Text | Annotated[Chat, Tag("chat")], _one_of("a string or an object with 'messages'")
]
TextOrTexts = Annotated[
    _Text | Annotated[Texts, Tag("texts")], _one_of("a string or a list of strings")
]


@dataclass(frozen=True, slots=True)
class EngineKind:
    """What the server must know of a built-in engine; `workers.engines.registry` says where its class is.

    `content` is the type of a request's input, `params` that of its params. `generates_text`: it takes
    `TextGenerationParams` and the limits of tokens. `counts_tokens`: a job's cost is in tokens.
    `streams_text`: its `output.text` is what it has streamed. `deterministic`: one input has one output.
    """

    content: Any
    params: type[Params]
    needs_path: bool = True
    generates_text: bool = False
    counts_tokens: bool = False
    streams_text: bool = False
    deterministic: bool = False


_TEXT = EngineKind(
    TextOrChat,
    TextGenerationParams,
    generates_text=True,
    counts_tokens=True,
    streams_text=True,
)
ENGINES: dict[str, EngineKind] = {
    "text-generation": _TEXT,
    "vllm": _TEXT,
    "embedding": EngineKind(TextOrTexts, EmbeddingParams, counts_tokens=True, deterministic=True),
    "echo": EngineKind(str, EchoParams, needs_path=False, streams_text=True),
}
"""The built-in engines. Any other takes any JSON as `input` and any object as `params`."""
TEXT_ENGINES = frozenset(name for name, kind in ENGINES.items() if kind.generates_text)
PARAMS: dict[str, TypeAdapter[Any]] = {n: TypeAdapter(kind.params) for n, kind in ENGINES.items()}
INPUTS: dict[str, TypeAdapter[Any]] = {n: TypeAdapter(kind.content) for n, kind in ENGINES.items()}

_DEFAULTS = {name: kind.params().model_dump() for name, kind in ENGINES.items()}


def checked(engine: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The params of a request with the engine's defaults filled in; as they are where it has no model.

    Raises pydantic's `ValidationError`.
    """
    adapter = PARAMS.get(engine)
    if adapter is None:
        return dict(given)
    if not given:
        # The lists in it are shared, and nobody's to change.
        return dict(_DEFAULTS[engine])
    found: dict[str, Any] = adapter.validate_python(given).model_dump()
    return found


def without_defaults(engine: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Checked params without those that the engine assumes when it is told nothing.

    They are the larger part of a short request, which waits in Redis.
    """
    assumed = _DEFAULTS.get(engine, {})
    return {name: v for name, v in params.items() if name not in assumed or v != assumed[name]}
