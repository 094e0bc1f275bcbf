"""Base of what comes from a client: which members an object may have, and how they may be written."""

from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

MAX_FAULTS_SHOWN = 32
"""Faults of a body that a refusal names."""
NULL = {"type": "null"}
_ABOUT = ("title", "description", "default", "examples")
"""What a JSON schema says of a member whatever its type."""


class Wire(BaseModel):
    """Unknown members and loose types are refused.

    A member that is null was left out. A string or number stands for a list of one where a list of them is
    wanted. Names are compared before any value is looked at: of those that are unknown, no more are looked at
    than a refusal names, so that a body of many costs no more than one of few.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    lists: ClassVar[frozenset[str]] = frozenset()
    """Members that are lists of strings or numbers."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.lists = frozenset(
            name for name, field in cls.model_fields.items() if _of_scalars(field.annotation)
        )

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        fields = cls.model_fields
        meant = {
            name: [value] if name in cls.lists and isinstance(value, str | int | float) else value
            for name in fields
            if (value := given.get(name)) is not None
        }
        unknown = islice((name for name in given if name not in fields), MAX_FAULTS_SHOWN)
        meant.update((name, given[name]) for name in unknown)
        return meant

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """The schema of what is taken: members that may be left out may be null."""
        schema = handler(core_schema)
        shown = handler.resolve_ref_schema(schema)
        required = shown.get("required", ())
        for name, member in shown.get("properties", {}).items():
            if name in cls.lists:
                member = or_one(member)
            shown["properties"][name] = member if name in required else or_null(member)
        return schema


def or_null(member: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of a member that may be null as well."""
    kinds = _kinds(member)
    return _any_of(member, kinds if not any(kinds) or NULL in kinds else [*kinds, NULL])


def or_one(member: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of a list that may be given as its only item."""
    kinds = _kinds(member)
    return _any_of(member, [*kinds, *(kind["items"] for kind in kinds if "items" in kind)])


def _kinds(member: Mapping[str, Any]) -> list[dict[str, Any]]:
    bare = {name: value for name, value in member.items() if name not in _ABOUT}
    return bare["anyOf"] if set(bare) == {"anyOf"} else [bare]


def _any_of(member: Mapping[str, Any], kinds: list[dict[str, Any]]) -> dict[str, Any]:
    about = {name: value for name, value in member.items() if name in _ABOUT}
    return {**(kinds[0] if len(kinds) == 1 else {"anyOf": kinds}), **about}


def _of_scalars(annotation: Any) -> bool:
    """Whether a member's type is a list of strings or numbers, however they are bounded."""
    if get_origin(annotation) is not list:
        return False
    (item,) = get_args(annotation)
    while hasattr(item, "__metadata__"):
        item = item.__origin__
    if get_args(item):
        return all(isinstance(value, str | int) for value in get_args(item))
    return isinstance(item, type) and issubclass(item, str | int | float)
