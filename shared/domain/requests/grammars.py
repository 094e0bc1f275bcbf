"""What a text must be made of, as a request says it: a grammar, or OpenAI's `response_format`.

Here only its shape is checked. Whether it can be enforced, and at what cost, is found out by
`shared.grammars`, before the job is stored.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SkipValidation,
    StringConstraints,
    model_validator,
)
from pydantic_core import CoreSchema

from shared.domain.wire import NULL, Wire

MAX_GRAMMAR = 64 * 1024
"""Bytes of a schema in JSON, of a regular expression, of a Lark grammar."""
MAX_PATTERN = 2048
"""Characters of one regular expression."""
MAX_ALTERNATIVES = 1000
"""Choices, members of an enum, branches of an anyOf: of one grammar all together."""
KINDS = ("json_schema", "regex", "choices", "lark")

Choice = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Schema = Annotated[dict[str, Any], SkipValidation]
"""A JSON schema as it was decoded: its members keep their order, which is that of the text."""


class Grammar(Wire):
    """Exactly one of its members. The whole text then follows it: nothing stands before it or behind it."""

    json_schema: Schema | None = Field(
        default=None,
        description="The text is JSON, without blanks between its parts, for which this schema holds. Members"
        " stand in the schema's order. What cannot be enforced is refused by its keyword.",
        json_schema_extra={"type": "object"},
    )
    regex: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PATTERN)] | None = Field(
        default=None, description="A regular expression that the whole text matches."
    )
    choices: list[Choice] = Field(
        default_factory=list,
        max_length=MAX_ALTERNATIVES,
        description="The text is one of these.",
    )
    lark: Annotated[str, StringConstraints(min_length=1, max_length=MAX_GRAMMAR)] | None = Field(
        default=None,
        description="A context-free grammar in Lark's notation; it begins with `start`.",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "Grammar":
        given = [kind for kind in KINDS if getattr(self, kind) not in (None, [])]
        if len(given) != 1:
            raise ValueError(f"Give exactly one of {', '.join(KINDS)}")
        if self.json_schema is not None and not isinstance(self.json_schema, dict):
            raise ValueError("json_schema must be an object")
        return self

    def as_given(self) -> dict[str, Any]:
        """The one member that was given, by its kind."""
        found = self.model_dump(exclude_defaults=True)
        # What is taken out above stands inside a schema too, where it is meant.
        return found if self.json_schema is None else {"json_schema": self.json_schema}


class JsonSchemaFormat(Wire):
    """The member `json_schema` of OpenAI's `response_format`."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")] = "schema"
    description: str | None = None
    json_schema: Schema = Field(
        alias="schema",
        default_factory=lambda: {"type": "object"},
        json_schema_extra={"type": "object"},
    )
    strict: bool | None = None


class ResponseFormat(Wire):
    """OpenAI's way to ask for JSON."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema belongs to type json_schema, and to no other")
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """With `json_schema` where, and only where, that is the type."""
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        shown = handler.resolve_ref_schema(schema)
        shown["if"] = {"properties": {"type": {"const": "json_schema"}}}
        shown["then"] = {
            "required": ["json_schema"],
            "properties": {"json_schema": {"not": NULL}},
        }
        shown["else"] = {"properties": {"json_schema": NULL}}
        return schema

    @property
    def grammar(self) -> dict[str, Any] | None:
        """The grammar that this format asks for; None for plain text. `strict` makes no difference."""
        if self.type == "text":
            return None
        if self.json_schema is None:
            return {"json_schema": {"type": "object"}}
        return {"json_schema": self.json_schema.json_schema}
