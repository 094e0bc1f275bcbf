"""`POST /v1/chat/completions`: a chat as a job, and the job as a chat completion."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from api.http.body_bounds import MAX_INTEGER
from api.openai.ids import created, named
from api.openai.sampling import TIERS, IgnoredObject, IgnoredText, TextRequest, refused
from api.openai.usage import usage
from shared.domain.errors import InvalidRequest
from shared.domain.requests.chats import MAX_MESSAGES, Message
from shared.domain.requests.grammars import ResponseFormat
from shared.domain.requests.request_faults import CHOSEN
from shared.domain.requests.tools import MAX_TOOLS, NamedTool, Tool, ToolMode, choice_kind
from shared.domain.schemas import Json, Priority
from shared.domain.wire import Wire

PREFIX = "chatcmpl-"


class ToolSubset(Wire):
    """Of the tools, those that may be called now."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True)


class AllowedChatTools(Wire):
    """Which of the tools may be called."""

    type: Literal["allowed_tools"]
    allowed_tools: ToolSubset


ToolChoice = Annotated[
    Annotated[ToolMode, Tag(CHOSEN + "mode")]
    | Annotated[NamedTool, Tag(CHOSEN + "function")]
    | Annotated[AllowedChatTools, Tag(CHOSEN + "allowed_tools")],
    Discriminator(
        choice_kind,
        custom_error_type="tool_choice",
        custom_error_message="Input should be auto, none, required, a function, or allowed_tools",
    ),
]


class ChatRequest(TextRequest):
    """The body of `POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_INTEGER)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[Tool] | None = Field(default=None, max_length=MAX_TOOLS, fail_fast=True)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = Field(default=None, max_length=64)
    modalities: list[Literal["text"]] | None = None
    chat_template_kwargs: dict[str, Json] | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    store: bool | None = None
    safety_identifier: IgnoredText = None
    prompt_cache_key: IgnoredText = None
    prompt_cache_options: IgnoredObject = None
    prompt_cache_retention: IgnoredText = None
    prediction: IgnoredObject = None
    verbosity: IgnoredText = None
    audio: refused("this server makes no sound") = None  # type: ignore[valid-type]
    functions: refused("send them as tools") = None  # type: ignore[valid-type]
    function_call: refused("send it as tool_choice") = None  # type: ignore[valid-type]
    moderation: refused("this server does not moderate") = None  # type: ignore[valid-type]
    web_search_options: refused("this server searches nothing") = None  # type: ignore[valid-type]

    def body(self, given: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
        """The body of `POST /v1/jobs` that asks the same. `given` is what was parsed; `model`: see
        `TextRequest.params`.
        """
        chat: dict[str, Any] = {"messages": given["messages"]}
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            if given.get(name) is not None:
                chat[name] = given[name]
        if isinstance(self.tool_choice, AllowedChatTools):
            chat |= self._allowed(self.tool_choice.allowed_tools, given.get("tools") or [])
        if kwargs := template_kwargs(self.reasoning_effort, self.chat_template_kwargs):
            chat["chat_template_kwargs"] = kwargs
        if self.continue_final_message:
            chat["continue_final_message"] = True
        params = self.params(model)
        if self.max_completion_tokens is not None:
            params["max_new_tokens"] = self.max_completion_tokens
        if self.response_format is not None:
            params["response_format"] = given["response_format"]
        if self.logprobs or self.top_logprobs:
            params |= {"logprobs": True, "top_logprobs": self.top_logprobs or 0}
        return self.job_request(input=chat, params=params)

    @staticmethod
    def _allowed(subset: ToolSubset, tools: list[Mapping[str, Any]]) -> dict[str, Any]:
        """The members of a chat that offers these tools alone. Raises `InvalidRequest` for others."""
        names = {tool.function.name for tool in subset.tools}
        if unknown := names.difference(tool["function"]["name"] for tool in tools):
            why = f"names {min(unknown)!r}, which is none of the tools"
            row = {"loc": ["tool_choice"], "msg": why, "type": "value_error"}
            raise InvalidRequest(f"tool_choice {why}.", errors=[row])
        kept = [tool for tool in tools if tool["function"]["name"] in names]
        return {"tools": kept, "tool_choice": subset.mode}

    @property
    def may_call(self) -> bool:
        """Whether the answer may call tools."""
        return bool(self.tools) and self.tool_choice != "none"


def template_kwargs(effort: str | None, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings of a chat's template. Templates that know none of these names do not look at them."""
    said: dict[str, Any] = {}
    if effort is not None:
        said = {"enable_thinking": False} if effort == "none" else {"reasoning_effort": effort}
    return {**said, **(given or {})}


def completion(job: Mapping[str, Any], priority: Priority) -> dict[str, Any]:
    """A job that succeeded as a chat completion."""
    return {
        "id": named(PREFIX, job["id"]),
        "object": "chat.completion",
        "created": created(job["id"]),
        "model": job["model"],
        "choices": [
            {
                "index": index,
                "message": message(choice),
                "logprobs": logprobs(choice),
                "finish_reason": finish_reason(choice),
            }
            for index, choice in enumerate(choices(job["output"]))
        ],
        "usage": usage(job["usage"] or {}),
        "service_tier": TIERS[priority],
        "system_fingerprint": None,
    }


def chunk_head(job_id: str, model: str, priority: Priority) -> dict[str, Any]:
    """The members of every chunk of a chat's stream."""
    return {
        "id": named(PREFIX, job_id),
        "object": "chat.completion.chunk",
        "created": created(job_id),
        "model": model,
        "service_tier": TIERS[priority],
        "system_fingerprint": None,
    }


def choices(output: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The choices of an output: itself where there is but one."""
    found: Iterable[Mapping[str, Any]] = output.get("choices") or (output,)
    return found


def message(choice: Mapping[str, Any]) -> dict[str, Any]:
    """What the assistant says in a choice."""
    said = choice.get("message") or {"content": choice["text"]}
    extra = {name: said[name] for name in ("tool_calls", "reasoning_content") if said.get(name)}
    return {"role": "assistant", "content": said.get("content"), "refusal": None, **extra}


def finish_reason(choice: Mapping[str, Any]) -> str:
    """Why a choice has ended: no room, calls of tools, or by itself, whatever the native reason."""
    if choice["finish_reason"] == "length":
        return "length"
    return "tool_calls" if (choice.get("message") or {}).get("tool_calls") else "stop"


def logprobs(choice: Mapping[str, Any]) -> dict[str, Any] | None:
    """The log-probabilities of a choice's tokens, None where nobody asked for them."""
    rows = choice.get("logprobs")
    if rows is None:
        return None
    return {
        "content": [
            {**_token(row), "top_logprobs": [_token(other) for other in row["top"]]} for row in rows
        ],
        "refusal": None,
    }


def _token(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "token": row["token"],
        "bytes": row.get("bytes") or list(row["token"].encode("utf-8", "replace")),
        "logprob": row["logprob"],
    }
