"""Tools that a chat offers to its model, and which of them may or must be called."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag

from shared.domain.requests.request_faults import CHOSEN
from shared.domain.wire import Wire

MAX_TOOLS = 128

_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Function(Wire):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: _Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = Field(default=None, description="Shown to the model; not enforced.")


class Tool(Wire):
    """A tool that is offered to the model."""

    type: Literal["function"]
    function: Function


class NamedFunction(Wire):
    name: _Name


class NamedTool(Wire):
    """The one tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


def choice_kind(choice: Any) -> str:
    """Which kind of `tool_choice` is meant, as the tag of its type."""
    if isinstance(choice, str):
        return CHOSEN + "mode"
    return f"{CHOSEN}{choice.get('type')}" if isinstance(choice, Mapping) else ""


ToolMode = Literal["auto", "none", "required"]
ToolChoice = Annotated[
    Annotated[ToolMode, Tag(CHOSEN + "mode")] | Annotated[NamedTool, Tag(CHOSEN + "function")],
    Discriminator(
        choice_kind,
        custom_error_type="tool_choice",
        custom_error_message="Input should be auto, none, required or a function",
    ),
]
