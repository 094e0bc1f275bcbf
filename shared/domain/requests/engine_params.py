"""What engines accept as `params`, each of them: the base of all, and what encoders, pipelines and echo take.

Those of text generation stand in `shared.domain.requests.text_generation_params`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from shared.domain.wire import Wire

MAX_LABELS = 256
MAX_PROMPT_NAME = 128
MAX_PROMPT = 4096
"""Characters of a prompt that a job brings for each of its texts."""

Name = Annotated[str, StringConstraints(max_length=MAX_PROMPT_NAME)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=256)]


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


class TextParams(Params):
    """How a text, or the first one of a pair, is put to an encoder."""

    model_config = ConfigDict(
        json_schema_extra={
            "not": {
                "required": ["prompt", "prompt_name"],
                "properties": {
                    name: {"not": {"type": "null"}} for name in ("prompt", "prompt_name")
                },
            }
        }
    )

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
    files: bool | None = Field(
        default=None,
        description="Images and sounds of the output become files of yours, and it refers to them.",
    )


class EchoParams(Params):
    """`step_ms` is the time one piece takes, `repeat` how often the prompt is said."""

    step_ms: float | None = Field(default=None, ge=0.0, le=60_000.0)
    repeat: int = Field(default=1, ge=1, le=100_000)
