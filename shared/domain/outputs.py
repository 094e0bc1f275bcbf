"""What each built-in engine answers: the schema of a job's `output`, for documents and clients.

Nothing is validated with these: an engine's output goes out as the engine made it.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Output(BaseModel):
    model_config = ConfigDict(extra="allow")


class CalledFunction(BaseModel):
    name: str
    arguments: str = Field(
        description="JSON, as the model wrote it; cut where the text was cut in it."
    )


class CalledTool(BaseModel):
    id: str
    type: Literal["function"]
    function: CalledFunction


class AnsweredMessage(_Output):
    """What a text says as an answer in a chat."""

    role: Literal["assistant"]
    content: str | None = Field(description="null where tools are called and nothing is said.")
    reasoning_content: str | None = Field(default=None, description="What was thought first.")
    tool_calls: list[CalledTool] | None = None


class ContentPart(BaseModel):
    """More of what the assistant says."""

    type: Literal["content"]
    text: str


class ReasoningPart(BaseModel):
    """More of what it thinks."""

    type: Literal["reasoning"]
    text: str


class ToolCallPart(BaseModel):
    """More of a call's arguments."""

    type: Literal["tool_call"]
    index: int = Field(description="Which call of the text, from 0.")
    id: str | None = Field(default=None, description="In the first piece of a call only.")
    name: str | None = Field(default=None, description="In the first piece of a call only.")
    arguments: str


class TokenEvent(_Output):
    """The data of a `token` event."""

    text: str = Field(description="The next piece of the text, as the model writes it.")
    index: int = Field(description="How many tokens of the text came before it.")
    choice: int | None = Field(default=None, description="Which text, where it is not the first.")
    parts: list[ContentPart | ReasoningPart | ToolCallPart] | None = Field(
        default=None,
        description="Of a chat: what the piece adds to the parts of the message, perhaps nothing.",
    )
    logprobs: list[dict[str, Any]] | None = Field(
        default=None,
        description="Where they are wanted: of the tokens that it tells, as in the output.",
    )
    finish_reason: str | None = Field(
        default=None,
        description="Of a chat: why the text has ended, where it ends with this piece.",
    )


class TextChoice(_Output):
    """One of several texts of a prompt."""

    index: int
    text: str
    finish_reason: str
    message: AnsweredMessage | None = Field(default=None, description="Of a chat.")


class TextOutput(_Output):
    """A generated text, and all of them where several were asked for."""

    text: str
    finish_reason: str = Field(description="Why it ended: stop or length, for example.")
    message: AnsweredMessage | None = Field(
        default=None, description="Of a chat: the same as a message, calls of tools apart."
    )
    choices: list[TextChoice] | None = Field(
        default=None, description="There where `n` is more than 1; its first is the text above."
    )


class EchoOutput(_Output):
    """Output of the echo engine: the prompt again."""

    text: str


class SparseVector(BaseModel):
    """Where a vector is not 0, and what it is there; lists, or base64 of uint32 and float32."""

    indices: list[int] | str
    values: list[float] | str


class EmbeddingOutput(_Output):
    """A vector for each text: numbers, or base64 of them; of a multi-vector model one for each token."""

    embeddings: list[list[float]] | list[list[list[float]]] | list[SparseVector] | list[str]
    dimensions: int = Field(description="Numbers of a vector.")
    encoding: Literal["base64"] | None = Field(
        default=None, description="There where the numbers are in base64, little-endian."
    )


class RankedDocument(BaseModel):
    index: int = Field(description="Its place among the documents of the input, from 0.")
    score: float


class RankedDocuments(_Output):
    """Of a query and documents: those documents, the best first."""

    results: list[RankedDocument]


class Scores(_Output):
    """Of pairs or texts: a score each, or one for every label."""

    scores: list[float] | list[list[float]]
    labels: list[str] | None = Field(default=None, description="Of a model with several.")
    predictions: list[str] | None = Field(
        default=None, description="The label with the highest score, for each pair or text."
    )


OUTPUTS: dict[str, TypeAdapter[Any]] = {
    "text-generation": TypeAdapter(TextOutput),
    "vllm": TypeAdapter(TextOutput),
    "embedding": TypeAdapter(EmbeddingOutput),
    "ranking": TypeAdapter(RankedDocuments | Scores),
    "echo": TypeAdapter(EchoOutput),
}
"""Of the engines whose answers have one form. A pipeline's depends on its task: see `pipeline_outputs`."""

EVENT_DATA: dict[str, type[BaseModel]] = {"token": TokenEvent}
"""Of the events whose data has one form, whatever the engine."""
