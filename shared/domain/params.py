"""What each engine accepts as `params` and `input`, checked in the API before anything is queued.

No torch here: the API validates with these models, the engines read their fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    Strict,
    StringConstraints,
    Tag,
    TypeAdapter,
    WithJsonSchema,
    model_validator,
)

from shared.domain.chats import Chat
from shared.domain.grammars import Grammar, ResponseFormat
from shared.domain.wire import Wire

MAX_STOP_STRINGS = 8
MAX_STOP_TOKENS = 32
MAX_TOP_LOGPROBS = 20
MAX_CHOICES = 8
MAX_BIASES = 1024
MAX_BAD_WORDS = 64
MAX_TEXTS = 512
MAX_PROMPT_TOKENS = 1_000_000
LARGEST_TOKEN_ID = 2**31 - 1
MAX_DOCUMENTS = 512
MAX_LABELS = 256
MAX_PROMPT_NAME = 128
MAX_PROMPT = 4096
"""Characters of a prompt that a job brings for each of its texts."""

Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]
TokenId = Annotated[int, Field(ge=0, le=LARGEST_TOKEN_ID)]
TokenName = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,8})$")]
"""A token id as the name of a member, which in JSON is a text."""
Bias = Annotated[float, Field(ge=-100.0, le=100.0)]
BIASES_SCHEMA = {
    **TypeAdapter(dict[TokenName, Bias]).json_schema(),
    "maxProperties": MAX_BIASES,
    "additionalProperties": False,
}


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
    n: int = Field(
        default=1,
        ge=1,
        le=MAX_CHOICES,
        description="How many texts to make of one prompt, each by a seed of its own; the first is the one "
        "of n = 1. Each may have max_new_tokens.",
    )
    min_tokens: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="No token ends the text before it has so many, and stop strings count behind them only.",
    )
    ignore_eos: bool = Field(
        default=False, description="The model's own end tokens do not end the text."
    )
    logit_bias: Annotated[dict[TokenName, Bias], WithJsonSchema(BIASES_SCHEMA)] = Field(
        default_factory=dict,
        max_length=MAX_BIASES,
        description="By token id, what is added to its score before anything else is done.",
    )
    bad_words: list[Stop] = Field(
        default_factory=list,
        max_length=MAX_BAD_WORDS,
        description="Texts that the model must not write, with or without a space before them, as the "
        "tokenizer cuts them.",
    )
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    speculation: bool = Field(
        default=True,
        description="false: never try several tokens at once. The text is the same either way.",
    )
    grammar: Grammar | None = Field(
        default=None,
        description="What the text must be made of: JSON by a schema, a regular expression, one of several "
        "choices, a Lark grammar.",
    )
    response_format: ResponseFormat | None = Field(
        default=None, description="OpenAI's way to ask for JSON; stands for a grammar."
    )

    @model_validator(mode="after")
    def _one_grammar(self) -> "TextGenerationParams":
        if self.grammar is not None and self.response_format is not None:
            raise ValueError("Give grammar or response_format, not both")
        return self

    @model_validator(mode="after")
    def _together(self) -> "TextGenerationParams":
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.max_new_tokens is not None and self.min_tokens > self.max_new_tokens:
            raise ValueError("min_tokens must be at most max_new_tokens")
        return self

    def as_stored(self) -> dict[str, Any]:
        """Members that are kept in another form than they were given in."""
        if self.grammar is not None:
            grammar: dict[str, Any] | None = self.grammar.as_given()
        else:
            grammar = self.response_format.grammar if self.response_format is not None else None
        return {"grammar": grammar, "response_format": None}


Name = Annotated[str, StringConstraints(max_length=MAX_PROMPT_NAME)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class TextParams(Params):
    """How a text, or the first one of a pair, is put to an encoder."""

    prompt_name: Name | None = Field(
        default=None,
        description="Which of the model's own prompts stands before each text; its default if left out.",
    )
    prompt: str | None = Field(
        default=None,
        max_length=MAX_PROMPT,
        description="What stands before each text, instead of one of the model's own prompts.",
    )
    truncate: bool | Literal["left", "right"] = Field(
        default=False,
        description="Cuts a text that is too long, instead of refusing it: true on the side that the model's "
        "tokenizer names, left or right on that one.",
    )

    @model_validator(mode="after")
    def _one_prompt(self) -> Self:
        if self.prompt is not None and self.prompt_name is not None:
            raise ValueError("Give at most one of prompt and prompt_name")
        return self


class EmbeddingParams(TextParams):
    """`normalize` overrides what the model's own configuration says."""

    normalize: bool | None = None
    task: Name | None = Field(
        default=None,
        description="What the texts are for, such as query or document: chooses the way of a model that has "
        "several, and the prompt of that name where none is given.",
    )
    dimensions: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Cuts each vector to so many numbers and normalizes it anew; at most the model's.",
    )
    encoding: Literal["float", "base64"] = Field(
        default="float",
        description="base64: each vector as the base64 of its numbers, little-endian: float32, or float16 of "
        "a model that gives a vector for each token.",
    )


class RankingParams(TextParams):
    """`activation` overrides what the model's own configuration says of its scores."""

    activation: Literal["none", "sigmoid", "softmax"] | None = Field(
        default=None,
        description="What scores are put through; the model's own function if left out.",
    )


class PipelineParams(Params):
    """Of all tasks; a model takes those of its own, which `parts` of `GET /v1/models/{model}` lists."""

    top_k: int | None = Field(
        default=None, ge=1, le=10_000, description="How many classes are told."
    )
    threshold: float | None = Field(
        default=None, ge=0.0, le=1.0, description="The least score of what is told."
    )
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = Field(
        default=None, description="How the tokens of one word or name are put together."
    )
    candidate_labels: list[Label] | None = Field(
        default=None, min_length=1, max_length=MAX_LABELS, description="Classes to choose from."
    )
    hypothesis_template: str | None = Field(
        default=None, max_length=MAX_PROMPT, description="A sentence with {} in a label's place."
    )
    multi_label: bool | None = Field(
        default=None, description="Several labels may hold, each by a score of its own."
    )
    max_new_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    prefix: str | None = Field(
        default=None, max_length=MAX_PROMPT, description="Stands before the text."
    )
    source_language: Name | None = Field(default=None, description="As the tokenizer spells it.")
    target_language: Name | None = Field(default=None, description="As the tokenizer spells it.")
    language: Name | None = Field(default=None, description="That is spoken.")
    return_timestamps: bool | Literal["char", "word"] | None = None
    chunk_length_s: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        description="Seconds of the parts that a recording is cut into.",
    )


class EchoParams(Params):
    """`step_ms` is the time one piece takes, `repeat` how often the prompt is said."""

    step_ms: float | None = Field(default=None, ge=0.0, le=60_000.0)
    repeat: int = Field(default=1, ge=1, le=100_000)


Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]


def _whole_ids(given: Any) -> Any:
    """1.0 is an integer to JSON Schema, so it is one here."""
    if isinstance(given, list) and any(type(value) is float for value in given):
        return [int(v) if type(v) is float and v.is_integer() else v for v in given]
    return given


TokenIds = Annotated[
    list[Annotated[int, Strict(), Field(ge=0, le=LARGEST_TOKEN_ID)]],
    Field(min_length=1, max_length=MAX_PROMPT_TOKENS, fail_fast=True),
    BeforeValidator(_whole_ids),
]
"""A prompt that is tokenised already."""
TOKEN_IDS_SCHEMA = TypeAdapter(TokenIds).json_schema()


class Candidates(Wire):
    """Documents to be ranked by their relevance to a query."""

    query: str
    documents: list[str] = Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)
    top_n: int | None = Field(
        default=None, ge=1, description="How many of the best are told; all if left out."
    )


TextPair = Annotated[list[str], Field(min_length=2, max_length=2)]
Pairs = Annotated[list[TextPair], Field(min_length=1, max_length=MAX_DOCUMENTS)]


def _one_of(words: str) -> Discriminator:
    """Told apart by JSON type: a fault is then said of the kind that was sent, and only of it."""
    return Discriminator(
        lambda value: _KINDS.get(type(value), ""),
        custom_error_type="input_type",
        custom_error_message=f"Input should be {words}",
    )


_KINDS: dict[type, str] = {str: "text", list: "list", dict: "chat"}
_Text = Annotated[str, Tag("text")]
Prompt = Annotated[
    _Text | Annotated[TokenIds, Tag("list")] | Annotated[Chat, Tag("chat")],
    _one_of("a string, a list of token ids or an object with 'messages'"),
]
TextOrTexts = Annotated[
    _Text | Annotated[Texts, Tag("list")], _one_of("a string or a list of strings")
]


class ImageInput(Wire):
    """An image as base64, or as a data: URL with it."""

    image: str = Field(description="PNG, JPEG, WebP, GIF, BMP or TIFF in base64.")


class AudioInput(Wire):
    """A sound as base64, or as a data: URL with it."""

    audio: str = Field(description="A WAV file (PCM) in base64.")


def _medium(value: Any) -> str:
    if isinstance(value, dict):
        return "audio" if "audio" in value else "image"
    return _KINDS.get(type(value), "") if isinstance(value, str) else ""


TextOrFile = Annotated[
    _Text | Annotated[ImageInput, Tag("image")] | Annotated[AudioInput, Tag("audio")],
    Discriminator(
        _medium,
        custom_error_type="input_type",
        custom_error_message="Input should be a string, or an object with 'image' or 'audio'",
    ),
]


def _ranking_kind(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "pairs"
    kind = _KINDS.get(type(value), "")
    return "candidates" if kind == "chat" else kind


TextsToRank = Annotated[
    _Text
    | Annotated[Texts, Tag("list")]
    | Annotated[Pairs, Tag("pairs")]
    | Annotated[Candidates, Tag("candidates")],
    Discriminator(
        _ranking_kind,
        custom_error_type="input_type",
        custom_error_message="Input should be an object with 'query' and 'documents', a list of pairs of "
        "strings, a string or a list of strings",
    ),
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
    Prompt,
    TextGenerationParams,
    generates_text=True,
    counts_tokens=True,
    streams_text=True,
)
ENGINES: dict[str, EngineKind] = {
    "text-generation": _TEXT,
    "vllm": _TEXT,
    "embedding": EngineKind(TextOrTexts, EmbeddingParams, counts_tokens=True, deterministic=True),
    "ranking": EngineKind(TextsToRank, RankingParams, counts_tokens=True, deterministic=True),
    "pipeline": EngineKind(TextOrFile, PipelineParams),
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
    made = adapter.validate_python(given)
    found: dict[str, Any] = made.model_dump()
    if isinstance(made, TextGenerationParams):
        found |= made.as_stored()
    return found


def without_defaults(engine: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Checked params without those that the engine assumes when it is told nothing.

    They are the larger part of a short request, which waits in Redis.
    """
    assumed = _DEFAULTS.get(engine, {})
    return {name: v for name, v in params.items() if name not in assumed or v != assumed[name]}
