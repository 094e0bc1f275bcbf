"""Tools of a response, and which of them must or may be called."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag
from pydantic_core import PydanticCustomError

from shared.domain.requests.request_faults import CHOSEN
from shared.domain.requests.tools import MAX_TOOLS, ToolMode, choice_kind
from shared.domain.schemas import Json
from shared.domain.wire import Wire

_Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Ignored = Json


def _function_alone(tool: Any) -> Any:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if isinstance(kind, str) and kind != "function":
        raise PydanticCustomError(
            "tool_type",
            "a tool of type '{kind}' runs elsewhere, and this server runs none; offer functions",
            {"kind": kind[:64]},
        )
    return tool


class FunctionTool(Wire):
    """A function that the model may call; `parameters` is a JSON schema."""

    type: Literal["function"]
    name: _Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = Field(default=None, description="Shown to the model; not enforced.")
    output_schema: _Ignored = None
    allowed_callers: _Ignored = None
    defer_loading: _Ignored = None

    def told(self) -> dict[str, Any]:
        """The setting as the JSON of a response shows it."""
        said = {"name": self.name, "description": self.description}
        shown = {"parameters": self.parameters, "strict": self.strict}
        return {"type": "function", **said, **shown}

    def native(self) -> dict[str, Any]:
        """The tool as a member of `params.tools` of a native chat."""
        function = {name: value for name, value in self.told().items() if value is not None}
        del function["type"]
        return {"type": "function", "function": function}


Tool = Annotated[FunctionTool, BeforeValidator(_function_alone)]


class ChosenFunction(Wire):
    """The one function that must be called."""

    type: Literal["function"]
    name: _Name


class AllowedTools(Wire):
    """Of the tools, those that may be called now."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[ChosenFunction] = Field(min_length=1, max_length=MAX_TOOLS, fail_fast=True)


ToolChoice = Annotated[
    Annotated[ToolMode, Tag(CHOSEN + "mode")]
    | Annotated[ChosenFunction, Tag(CHOSEN + "function")]
    | Annotated[AllowedTools, Tag(CHOSEN + "allowed_tools")],
    Discriminator(
        choice_kind,
        custom_error_type="tool_choice",
        custom_error_message="Input should be auto, none, required, a function, or allowed_tools",
    ),
]
