"""The body of `POST /v1/responses`, as a request for a job."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema

from api.http.body_bounds import MAX_INTEGER
from api.openai.chat import template_kwargs
from api.openai.responses.items import MAX_ITEMS, InputItem, Item
from api.openai.responses.messages import messages
from api.openai.responses.text_format import TextConfig
from api.openai.responses.tools import AllowedTools, ChosenFunction, FunctionTool, Tool, ToolChoice
from api.openai.sampling import (
    MOST_TOKENS,
    TIERS,
    IgnoredObject,
    IgnoredText,
    Sampled,
    refused,
)
from shared.domain.errors import InvalidRequest
from shared.domain.requests.chats import MAX_MESSAGES
from shared.domain.requests.request_faults import CHOSEN
from shared.domain.requests.tools import MAX_TOOLS
from shared.domain.schemas import Json
from shared.domain.wire import NULL, Wire

RESPONSE_ID = r"^resp_[0-9a-f]{32}$"
WINDOWS: Mapping[str, float] = {"2h": 2 * 3600.0, "8h": 8 * 3600.0}
"""Seconds until a job expires, by completion window; `soonest` is no bound of its own."""
INPUTS: Mapping[type, str] = {str: "text", list: "items"}
LOGPROBS = "message.output_text.logprobs"
_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Ignored = Json


class ReasoningConfig(Wire):
    """`effort` is told to the model's template: see docs/openai.md."""

    effort: str | None = Field(default=None, max_length=64)
    summary: IgnoredText = None
    generate_summary: IgnoredText = None
    mode: IgnoredText = None
    context: IgnoredText = None


class BackgroundOptions(Wire):
    """Until when a response is wanted that is made in the background."""

    completion_window: Literal["soonest", "2h", "8h"] | None = None
    continuation_id: refused("this server goes on with no other's work") = None  # type: ignore[valid-type]


class ResponseStreamOptions(Wire):
    include_obfuscation: bool | None = None


class ResponseRequest(Sampled):
    """The body of `POST /v1/responses`."""

    NAMES: ClassVar[Mapping[str, str]] = {**Sampled.NAMES, "max_output_tokens": "max_new_tokens"}

    input: Annotated[
        Annotated[str, Tag(CHOSEN + "text")]
        | Annotated[
            list[InputItem],
            Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True),
            Tag(CHOSEN + "items"),
        ],
        Discriminator(
            lambda given: CHOSEN + INPUTS.get(type(given), ""),
            custom_error_type="input_type",
            custom_error_message="Input should be a string or a list of items",
        ),
    ] = Field(description="What the user says, or the items of a conversation.")
    instructions: str | None = None
    previous_response_id: str | None = Field(
        default=None,
        pattern=RESPONSE_ID,
        description="The response that this one goes on with: its input and output come first.",
    )
    max_output_tokens: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    tools: list[Tool] = Field(default_factory=list, max_length=MAX_TOOLS, fail_fast=True)
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    include: list[str] = Field(default_factory=list, max_length=32)
    store: bool = Field(default=True, description="false: the response cannot be read again.")
    background: bool = False
    background_options: BackgroundOptions | None = None
    stream_options: ResponseStreamOptions | None = None
    chat_template_kwargs: dict[str, Json] | None = None
    max_tool_calls: int | None = Field(
        default=None, ge=-MAX_INTEGER, le=MAX_INTEGER, description="Of tools that run elsewhere."
    )
    truncation: Literal["disabled"] | None = Field(
        default=None, description="A conversation that does not fit is refused, and never cut."
    )
    safety_identifier: IgnoredText = None
    prompt_cache_key: IgnoredText = None
    prompt_cache_options: IgnoredObject = None
    prompt_cache_retention: IgnoredText = None
    access_programs: IgnoredObject = None
    image: IgnoredObject = None
    conversation: refused("name the response that this one goes on with") = None  # type: ignore[valid-type]
    prompt: refused("this server keeps no prompts; send the text") = None  # type: ignore[valid-type]
    context_management: refused("this server does not shorten conversations") = None  # type: ignore[valid-type]
    moderation: refused("this server does not moderate") = None  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _kept_where_it_is_asked_for_later(self) -> "ResponseRequest":
        if self.background and not self.store:
            raise ValueError(
                "background: true is for reading the answer later: leave out store: false"
            )
        if self.background_options is not None and not self.background:
            raise ValueError("background_options belong to background: true")
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """With what belongs to a response in the background."""
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        options = {"background_options": {"not": NULL}}
        behind = {"properties": {"background": {"const": True}}, "required": ["background"]}
        kept = {"properties": {"store": {"not": {"const": False}}}}
        handler.resolve_ref_schema(schema)["allOf"] = [
            {"if": {"properties": options, "required": [*options]}, "then": behind},
            {"if": behind, "then": kept},
        ]
        return schema

    @property
    def offered(self) -> list[FunctionTool]:
        """The tools that the model may call in this response. Raises `InvalidRequest`."""
        choice = self.tool_choice
        named = tuple(choice.tools) if isinstance(choice, AllowedTools) else ()
        wanted = {tool.name for tool in named} or {tool.name for tool in self.tools}
        if isinstance(choice, ChosenFunction):
            named = (choice,)
        known = {tool.name for tool in self.tools}
        for tool in named:
            if tool.name not in known:
                raise InvalidRequest(
                    f"tool_choice names {tool.name!r}, which is none of the tools."
                )
        return [tool for tool in self.tools if tool.name in wanted]

    @property
    def wants_logprobs(self) -> bool:
        """Whether log-probabilities are told."""
        return LOGPROBS in self.include or bool(self.top_logprobs)

    @property
    def expires_in(self) -> float | None:
        """Seconds until the job expires, None for as long as any job."""
        window = self.background_options and self.background_options.completion_window
        return WINDOWS.get(window or "")

    def body(self, conversation: Sequence[Item], model: Mapping[str, Any]) -> dict[str, Any]:
        """The body of `POST /v1/jobs` that asks the same. `conversation`: all items that come before the
        answer; `model`: see `Sampled.params`. Raises `InvalidRequest`.
        """
        said = messages(self.instructions, conversation)
        if not 0 < len(said) <= MAX_MESSAGES:
            raise InvalidRequest(
                f"A conversation has 1 to {MAX_MESSAGES} turns, and this one {len(said)}."
            )
        chat: dict[str, Any] = {"messages": said}
        if tools := self.offered:
            chat["tools"] = [tool.native() for tool in tools]
            chat["tool_choice"] = self._native_choice()
            chat["parallel_tool_calls"] = self.parallel_tool_calls
        effort = self.reasoning.effort if self.reasoning is not None else None
        if kwargs := template_kwargs(effort, self.chat_template_kwargs):
            chat["chat_template_kwargs"] = kwargs
        params = self.params(model)
        if self.text is not None and self.text.format is not None:
            params["response_format"] = self.text.format.native()
        if self.wants_logprobs:
            params |= {"logprobs": True, "top_logprobs": self.top_logprobs or 0}
        until = {"expires_in": self.expires_in} if self.expires_in is not None else {}
        return self.job_request(input=chat, params=params, **until)

    def echo(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What a response repeats of its request. `params` are the native ones that were asked for."""
        choice, text = self.tool_choice, self.text
        reasoning = self.reasoning
        return {
            "background": self.background,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": self.max_tool_calls,
            "parallel_tool_calls": self.parallel_tool_calls,
            "previous_response_id": self.previous_response_id,
            "prompt_cache_key": self.prompt_cache_key,
            "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
            "safety_identifier": self.safety_identifier,
            "service_tier": TIERS[self.priority],
            "store": self.store,
            "temperature": params["temperature"],
            "text": {"format": text.format.told() if text and text.format else {"type": "text"}},
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
            "tools": [tool.told() for tool in self.tools],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": params["top_p"],
            "truncation": "disabled",
            "user": self.user,
        }

    def _native_choice(self) -> str | dict[str, Any]:
        choice = self.tool_choice
        if isinstance(choice, ChosenFunction):
            return {"type": "function", "function": {"name": choice.name}}
        return choice.mode if isinstance(choice, AllowedTools) else choice
