"""The items of a conversation as clients send them: checked, and as they are kept and listed."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag
from pydantic_core import PydanticCustomError

from shared.domain.requests.chats import MAX_PARTS
from shared.domain.requests.request_faults import CHOSEN
from shared.domain.schemas import Json
from shared.domain.wire import Wire

MAX_ITEMS = 512
ITEMS = ("message", "function_call", "function_call_output", "reasoning", "item_reference")
PARTS = ("input_text", "output_text", "text", "refusal")
Item = dict[str, Any]
"""An item as it is stored: with the field names of OpenAI's answers."""

_Id = Annotated[str, StringConstraints(min_length=1, max_length=128)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Status = Literal["in_progress", "completed", "incomplete"] | None
_Ignored = Annotated[Json, Field(description="Taken, and without a meaning here.")]


class ItemText(Wire):
    """A piece of text. All three types mean the same."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: _Ignored = None
    logprobs: _Ignored = None
    parsed: _Ignored = None
    prompt_cache_breakpoint: _Ignored = None


class RefusalPart(Wire):
    """What an assistant said in place of an answer: text like any other."""

    type: Literal["refusal"]
    refusal: str


def _known_part(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if isinstance(kind, str) and kind not in PARTS:
        raise PydanticCustomError(
            "part_type",
            "this model reads text alone; a part of type '{kind}' cannot be used",
            {"kind": kind[:64]},
        )
    return part


Part = Annotated[
    Annotated[ItemText | RefusalPart, Field(discriminator="type")], BeforeValidator(_known_part)
]
_Parts = Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]
_CONTENTS: Mapping[type, str] = {str: CHOSEN + "text", list: CHOSEN + "parts"}


def _content_kind(content: Any) -> str:
    return _CONTENTS.get(type(content), "")


Content = Annotated[
    Annotated[str, Tag(CHOSEN + "text")] | Annotated[_Parts, Tag(CHOSEN + "parts")],
    Discriminator(
        _content_kind,
        custom_error_type="content_type",
        custom_error_message="Input should be a string or a list of text parts",
    ),
]


class MessageItem(Wire):
    """One turn of the conversation; `developer` means the same as `system`."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: _Id | None = None
    status: _Status = None
    phase: _Ignored = None

    def kept(self) -> Item:
        """See `kept`."""
        parts = [{"text": text} for text in texts(self.content)]
        kind: Item = {"type": "input_text"}
        if self.role == "assistant":
            kind = {"type": "output_text", "annotations": []}
        content = [{**kind, **part} for part in parts]
        return {"type": "message", "role": self.role, "content": content, "status": "completed"}


class FunctionCall(Wire):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: _Id
    name: _Name
    arguments: str
    id: _Id | None = None
    status: _Status = None
    caller: _Ignored = None
    created_by: _Ignored = None
    parsed_arguments: _Ignored = None

    def kept(self) -> Item:
        """See `kept`."""
        said = {"call_id": self.call_id, "name": self.name, "arguments": self.arguments}
        return {"type": self.type, **said, "status": "completed"}


class FunctionCallOutput(Wire):
    """What a called function returned."""

    type: Literal["function_call_output"]
    call_id: _Id
    output: Content
    id: _Id | None = None
    status: _Status = None
    caller: _Ignored = None
    created_by: _Ignored = None
    name: _Ignored = None

    def kept(self) -> Item:
        """See `kept`."""
        output = "".join(texts(self.output))
        return {
            "type": self.type,
            "call_id": self.call_id,
            "output": output,
            "status": "completed",
        }


class SummaryText(Wire):
    type: Literal["summary_text"]
    text: str


class ReasoningText(Wire):
    type: Literal["reasoning_text", "text"]
    text: str


class Reasoning(Wire):
    """What the model thought, for templates that show it. What is encrypted was not encrypted here."""

    type: Literal["reasoning"]
    id: _Id | None = None
    summary: list[SummaryText] = Field(default_factory=list, max_length=MAX_PARTS, fail_fast=True)
    content: list[ReasoningText] = Field(default_factory=list, max_length=MAX_PARTS, fail_fast=True)
    encrypted_content: _Ignored = None
    status: _Status = None

    def kept(self) -> Item:
        """See `kept`."""
        return {
            "type": self.type,
            "summary": [{"type": part.type, "text": part.text} for part in self.summary],
            "content": [{"type": "reasoning_text", "text": part.text} for part in self.content],
        }


class ItemReference(Wire):
    """An item of an earlier response, by its id."""

    type: Literal["item_reference"] = "item_reference"
    id: _Id


def _item_kind(item: Any) -> str:
    """The type of an item, which may be left out of messages and of references."""
    if not isinstance(item, Mapping):
        return ""
    kind = item.get("type")
    if kind is None:
        kind = "item_reference" if "id" in item and "role" not in item else "message"
    return f"{CHOSEN}{kind}"


def _known_item(item: Any) -> Any:
    kind = item.get("type") if isinstance(item, Mapping) else None
    if isinstance(kind, str) and kind not in ITEMS:
        raise PydanticCustomError(
            "item_type",
            "an item of type '{kind}' cannot be used; this server takes {known}",
            {"kind": kind[:64], "known": ", ".join(ITEMS)},
        )
    return item


InputItem = Annotated[
    Annotated[
        Annotated[MessageItem, Tag(CHOSEN + "message")]
        | Annotated[FunctionCall, Tag(CHOSEN + "function_call")]
        | Annotated[FunctionCallOutput, Tag(CHOSEN + "function_call_output")]
        | Annotated[Reasoning, Tag(CHOSEN + "reasoning")]
        | Annotated[ItemReference, Tag(CHOSEN + "item_reference")],
        Discriminator(
            _item_kind,
            custom_error_type="item_kind",
            custom_error_message="Input should be an object that is an item of a conversation",
        ),
    ],
    BeforeValidator(_known_item),
]


def texts(content: str | Sequence[ItemText | RefusalPart]) -> list[str]:
    """The texts of a content, in order."""
    if isinstance(content, str):
        return [content]
    return [part.text if isinstance(part, ItemText) else part.refusal for part in content]


def kept(item: MessageItem | FunctionCall | FunctionCallOutput | Reasoning) -> Item:
    """An item as it is kept: with the id that its sender gave it, if any."""
    given = {"id": item.id} if item.id is not None else {}
    return {**item.kept(), **given}
