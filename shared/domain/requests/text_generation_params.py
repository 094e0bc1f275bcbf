"""What text generation accepts as `params`: how a text is sampled, what it may say and where it ends."""

from typing import Annotated, Any

from pydantic import Field, StringConstraints, TypeAdapter, WithJsonSchema, model_validator

from shared.domain.requests.engine_params import Params
from shared.domain.requests.grammars import Grammar, ResponseFormat
from shared.domain.requests.inputs import LARGEST_TOKEN_ID

MAX_STOP_STRINGS = 8
MAX_STOP_TOKENS = 32
MAX_TOP_LOGPROBS = 20
MAX_CHOICES = 8
MAX_BIASES = 1024
MAX_BAD_WORDS = 64

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
