"""What the routes of this dialect answer, for the OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel, Field


class TokenLogprob(BaseModel):
    """A token and the natural logarithm of its probability."""

    token: str
    bytes: list[int]
    logprob: float


class ChosenLogprob(TokenLogprob):
    top_logprobs: list[TokenLogprob]


class ChatLogprobs(BaseModel):
    content: list[ChosenLogprob]
    refusal: None


class ChatMessage(BaseModel):
    """What the model says. `tool_calls` and `reasoning_content` are left out where there are none."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning_content: str | None = None


class ChatChoice(BaseModel):
    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class PromptDetails(BaseModel):
    cached_tokens: int


class CompletionDetails(BaseModel):
    reasoning_tokens: int


class TokenUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class ChatCompletion(BaseModel):
    """A chat completion. `id` is the job's, with `chatcmpl-` for `job_`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: TokenUsage
    service_tier: Literal["priority", "default", "flex"] = Field(description="What was used.")
    system_fingerprint: None


class CompletionLogprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """A completion. `id` is the job's, with `cmpl-` for `job_`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: TokenUsage
    system_fingerprint: None


class Embedding(BaseModel):
    """A vector: floats, or base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class RankedDocument(BaseModel):
    """A document by its place in the request. `document` is left out unless it was asked for."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class Ranking(BaseModel):
    """The best first. `id` is the job's, with `rerank-` for `job_`."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: EmbeddingUsage


class FileObject(BaseModel):
    """A file. Times are in seconds since 1970."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"]
    status_details: None


class FileList(BaseModel):
    """A page of files. `has_more`: there are others behind `last_id`."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(BaseModel):
    id: str
    object: Literal["file"]
    deleted: Literal[True]


class BatchFault(BaseModel):
    """A fault of a batch's input. `line` counts from 1."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchFaults(BaseModel):
    object: Literal["list"]
    data: list[BatchFault]


class RequestCounts(BaseModel):
    """Lines of a batch: all, those that were answered with success, and the others that were answered."""

    total: int
    completed: int
    failed: int


class BatchObject(BaseModel):
    """A batch. Times are in seconds since 1970."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: BatchFaults | None
    input_file_id: str
    completion_window: Literal["24h"]
    status: Literal[
        "validating",
        "failed",
        "in_progress",
        "finalizing",
        "completed",
        "expired",
        "cancelling",
        "cancelled",
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None


class BatchList(BaseModel):
    """A page of batches. `has_more`: there are others behind `last_id`."""

    object: Literal["list"]
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Error(BaseModel):
    """What went wrong. `code` is that of docs/errors.md, or OpenAI's where it has one for the same."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIProblem(BaseModel):
    """A problem document with OpenAI's `error` beside its own members."""

    error: Error
    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    job_id: str | None = Field(default=None, description="The job that goes on, or has failed.")
