"""What a tool's argument that stands in a text without quotes is as JSON, by the tool's schema."""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

STRING = frozenset({"string"})
DEEPEST = 8
"""References and alternatives that are followed."""
_SPELLED = {"True": "true", "False": "false", "None": "null"}
"""What Python writes for words of JSON; models do too."""


def types_of(schema: Mapping[str, Any], name: str) -> frozenset[str]:
    """The JSON types that an argument may have; none where the schema does not say."""
    members = schema.get("properties")
    return _types(members.get(name) if isinstance(members, Mapping) else None, schema, DEEPEST)


def as_json(text: str, types: frozenset[str]) -> str:
    """The JSON of a value that was written without quotes: as it stands where it is JSON of one of these
    types, which are any where none is given; else a string.
    """
    value = text.strip()
    value = _SPELLED.get(value, value)
    kind = _kind_of(value)
    if kind is not None and kind != "string" and (not types or kind in types):
        return value
    return json.dumps(text, ensure_ascii=False)


def _kind_of(value: str) -> str | None:
    try:
        return _kind(json.loads(value, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return None


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if float(value).is_integer() else "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _types(schema: Any, root: Mapping[str, Any], depth: int) -> frozenset[str]:
    if not isinstance(schema, Mapping) or not depth:
        return frozenset()
    given = schema.get("type")
    if given:
        types = {given} if isinstance(given, str) else set(given)
        return frozenset(types | ({"integer"} if "number" in types else set()))
    if "const" in schema or isinstance(schema.get("enum"), list):
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return frozenset(map(_kind, values))
    if "$ref" in schema:
        return _types(_referred(schema["$ref"], root), root, depth - 1)
    for keyword in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(keyword), list):
            found = [_types(one, root, depth - 1) for one in schema[keyword]]
            # An alternative that says nothing allows everything; a condition that does so changes nothing.
            known = all(found) or keyword == "allOf"
            return frozenset().union(*found) if known else frozenset()
    return frozenset()


def _referred(reference: Any, root: Mapping[str, Any]) -> Any:
    """What a reference within a schema leads to, None where it leads nowhere."""
    place: Any = root
    for step in str(reference).removeprefix("#").split("/")[1:]:
        place = (
            place.get(step.replace("~1", "/").replace("~0", "~"))
            if isinstance(place, Mapping)
            else None
        )
    return place
