"""A chat as clients send it, checked before it is stored: messages, tools, what the template is told.

What is checked here is what any chat template may be given. What one model's template can show of it is a
question to its worker: see `shared.domain.requests.prompt_bounds`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from shared.domain.requests.request_faults import CHOSEN
from shared.domain.requests.tools import MAX_TOOLS, Tool, ToolChoice
from shared.domain.wire import NULL, Wire, or_null

MAX_MESSAGES = 256
MAX_PARTS = 256
MAX_TOOL_CALLS = 128
MAX_DOCUMENTS = 64
MAX_TEMPLATE_KWARGS = 32
MAX_TEMPLATE_KWARGS_BYTES = 16 * 1024
"""Of `chat_template_kwargs` as JSON."""
TEXT_PARTS = ("text", "input_text", "output_text")
"""Types of a part of a message that are plain text, by OpenAI's names in chats and in responses."""

_Short = Annotated[str, StringConstraints(max_length=256)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_KWARG = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_RESERVED = frozenset(
    {
        "self",
        "conversation",
        "conversations",
        "messages",
        "tools",
        "documents",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "sanitize_control_tokens",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "processor_kwargs",
        "load_audio_from_video",
        "raise_exception",
        "strftime_now",
        "namespace",
        "range",
        "dict",
        "cycler",
        "joiner",
        "lipsum",
        "loop",
    }
)
"""What `chat_template_kwargs` may not name: arguments of the call that renders, and what templates call."""


def _text_alone(part: Any) -> Any:
    """A part of a message. Raises for one that a model of text cannot read."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if isinstance(kind, str) and kind not in TEXT_PARTS:
        raise PydanticCustomError(
            "part_type",
            "this model reads text alone; a part of type '{kind}' cannot be used",
            {"kind": kind[:64]},
        )
    return part


class TextPart(Wire):
    """A piece of a message's text. All three types mean the same."""

    type: Literal["text", "input_text", "output_text"]
    text: str


_KINDS: dict[type, str] = {str: CHOSEN + "text", list: CHOSEN + "parts"}


def _kind_of(content: Any) -> str:
    return _KINDS.get(type(content), "")


_Part = Annotated[TextPart, BeforeValidator(_text_alone)]
_Parts = Annotated[list[_Part], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]
Content = Annotated[
    Annotated[str, Tag(CHOSEN + "text")] | Annotated[_Parts, Tag(CHOSEN + "parts")],
    Discriminator(
        _kind_of,
        custom_error_type="content_type",
        custom_error_message="Input should be a string or a list of text parts",
    ),
]


class CalledFunction(Wire):
    """What an assistant called. `arguments`: a JSON object, or a string that holds one."""

    name: _Name
    arguments: Annotated[
        Any,
        Field(json_schema_extra={"anyOf": [{"type": "string"}, {"type": "object"}]}),
    ] = ""

    @model_validator(mode="after")
    def _known_kind(self) -> "CalledFunction":
        if not isinstance(self.arguments, str | dict):
            raise ValueError("arguments must be a JSON object, or a string that holds one")
        return self


class ToolCall(Wire):
    """A call that an assistant's message makes. `index` has no meaning here."""

    id: _Short | None = None
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = Field(default=None, ge=-(2**63 - 1), le=2**63 - 1)


class Message(Wire):
    """One turn of a chat.

    Only an assistant's message that calls tools may do without content. A template is given what this says,
    but for `refusal`, `annotations`, `audio` and `function_call`, which OpenAI's client writes into what it
    sends back, and which are null or empty where there is none.
    """

    role: Annotated[str, StringConstraints(pattern=r"^(system|developer|user|assistant|tool)$")]
    content: Content
    name: _Short | None = None
    tool_calls: list[ToolCall] | None = Field(
        default=None, max_length=MAX_TOOL_CALLS, fail_fast=True
    )
    tool_call_id: _Short | None = None
    reasoning_content: str | None = Field(
        default=None, description="What the assistant thought, for templates that show it."
    )
    refusal: None = None
    annotations: list[Any] | None = Field(default=None, max_length=0)
    audio: None = None
    function_call: None = None

    @model_validator(mode="before")
    @classmethod
    def _calls_without_words(cls, given: Any) -> Any:
        if (
            isinstance(given, dict)
            and given.get("content") is None
            and given.get("role") == "assistant"
            and given.get("tool_calls")
        ):
            return {**given, "content": ""}
        return given

    @model_validator(mode="after")
    def _calls_of_an_assistant(self) -> "Message":
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant's message may have tool_calls")
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """With null content where there are tool calls."""
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        shown = handler.resolve_ref_schema(schema)
        shown["required"] = ["role"]
        shown["properties"]["content"] = or_null(shown["properties"]["content"])
        assistant = {"properties": {"role": {"const": "assistant"}}}
        calls = {
            "required": ["tool_calls"],
            "properties": {"tool_calls": {"type": "array", "items": {}}},
        }
        called = {"properties": {"tool_calls": {"minItems": 1}}}
        shown["if"] = {"required": ["content"], "properties": {"content": {"not": NULL}}}
        shown["else"] = {"allOf": [assistant, calls, called]}
        none_called = {"properties": {"tool_calls": {"anyOf": [NULL, {"maxItems": 0}]}}}
        shown["anyOf"] = [assistant, none_called]
        return schema


class Chat(Wire):
    """A conversation, put through the model's own chat template. Faults are told of its first bad turn."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)
    tools: list[Tool] | None = Field(
        default=None,
        max_length=MAX_TOOLS,
        fail_fast=True,
        description="What the model may call; shown by templates that know tools.",
    )
    tool_choice: ToolChoice | None = Field(
        default=None,
        description="Whether the model may call tools, must not, must call one, or must call this one.",
    )
    parallel_tool_calls: bool | None = Field(
        default=None, description="false: a call that must be made is the only one."
    )
    documents: list[dict[str, Any]] | None = Field(
        default=None,
        max_length=MAX_DOCUMENTS,
        fail_fast=True,
        description="What the model may cite, for templates that know documents.",
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        default=None,
        max_length=MAX_TEMPLATE_KWARGS,
        description="Settings of the model's own template by name, such as enable_thinking: plain JSON.",
    )
    continue_final_message: bool = Field(
        default=False,
        description="The text goes on with the last message, which is left open, and does not answer it.",
    )

    @model_validator(mode="after")
    def _template_kwargs(self) -> "Chat":
        given = self.chat_template_kwargs or {}
        for name in given:
            if not _KWARG.fullmatch(name):
                raise ValueError(
                    "names in chat_template_kwargs are letters, digits and _, at most 64"
                )
            if name in _RESERVED or name.endswith("_token"):
                raise ValueError(f"chat_template_kwargs must not set {name}")
        if given and len(msgspec.json.encode(given)) > MAX_TEMPLATE_KWARGS_BYTES:
            raise ValueError(
                f"chat_template_kwargs must be at most {MAX_TEMPLATE_KWARGS_BYTES} bytes of JSON"
            )
        return self

    @model_validator(mode="after")
    def _something_to_continue(self) -> "Chat":
        last = self.messages[-1]
        if self.continue_final_message and (last.tool_calls or not last.content):
            raise ValueError(
                "continue_final_message needs a last message with text and no tool_calls"
            )
        return self
