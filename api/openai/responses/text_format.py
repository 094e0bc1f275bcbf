"""`text` of a response: what form its text must have."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from api.openai.sampling import IgnoredText
from shared.domain.requests.grammars import Schema
from shared.domain.wire import Wire


class TextFormat(Wire):
    """`text.format`: plain text, any JSON, or JSON that a schema describes."""

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] | None = None
    description: str | None = None
    json_schema: Schema | None = Field(
        default=None, alias="schema", json_schema_extra={"type": "object"}
    )
    strict: bool | None = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> "TextFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("schema belongs to type json_schema, and to no other")
        if self.json_schema is not None and not isinstance(self.json_schema, dict):
            raise ValueError("schema must be an object")
        return self

    def told(self) -> dict[str, Any]:
        """The setting as the JSON of a response shows it."""
        if self.json_schema is None:
            return {"type": self.type}
        said = {"name": self.name or "schema", "description": self.description}
        return {"type": self.type, **said, "schema": self.json_schema, "strict": self.strict}

    def native(self) -> dict[str, Any]:
        """The format as the `response_format` of a chat has it."""
        kind = self.type
        if self.json_schema is None:
            return {"type": kind}
        found = {name: value for name, value in self.told().items() if value is not None}
        del found["type"]
        return {"type": kind, "json_schema": found}


class TextConfig(Wire):
    """`text` of a request: its format and its verbosity."""

    format: TextFormat | None = None
    verbosity: IgnoredText = None
