"""What the routes of Responses answer, for the OpenAPI document."""

from typing import Any, Literal

from pydantic import BaseModel, Field

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class InputDetails(BaseModel):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(BaseModel):
    reasoning_tokens: int


class ResponseUsage(BaseModel):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseFault(BaseModel):
    """Why there is no answer, by OpenAI's codes."""

    code: Literal["server_error", "invalid_prompt"]
    message: str
    type: str
    param: None


class IncompleteDetails(BaseModel):
    reason: Literal["max_output_tokens"]


class ModelResponse(BaseModel):
    """A response. `id` is the job's, with `resp_` for `job_`. It repeats more of its request than this."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Status
    error: ResponseFault | None
    incomplete_details: IncompleteDetails | None
    model: str
    output: list[dict[str, Any]] = Field(
        description="Items of type `reasoning`, `message` and `function_call`."
    )
    usage: ResponseUsage | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    service_tier: Literal["priority", "default", "flex"] = Field(description="What was used.")
    previous_response_id: str | None
    background: bool


class DeletedResponse(BaseModel):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputItems(BaseModel):
    """A page of items. `first_id` and `last_id` are null where it has none."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool
