"""How large a JSON schema may be, measured before anything walks it by recursion."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from shared.domain.requests.grammars import MAX_GRAMMAR
from shared.grammars.refusal import GrammarRefused, Place

MAX_DEPTH = 32
"""Of schemas within schemas; a constant or an enum may be nested as deep."""
MAX_VALUES = 8000
"""Names, numbers and texts of a schema."""


def check_size(schema: Mapping[str, Any], place: Place, base: tuple[str, ...]) -> None:
    """Before anything walks it by recursion."""
    for number, depth in enumerate(_depths(schema), 1):
        if depth > 4 * MAX_DEPTH:
            raise GrammarRefused(
                place, "json_schema", f"nested more than {4 * MAX_DEPTH} deep", base
            )
        if number > MAX_VALUES:
            raise GrammarRefused(place, "json_schema", f"more than {MAX_VALUES} values", base)
    if len(msgspec.json.encode(schema)) > MAX_GRAMMAR:
        raise GrammarRefused(place, "json_schema", f"more than {MAX_GRAMMAR} bytes", base)


def _depths(value: Any) -> Iterator[int]:
    stack = [(value, 1)]
    while stack:
        one, depth = stack.pop()
        yield depth
        if isinstance(one, dict):
            stack.extend((inner, depth + 1) for inner in one.values())
        elif isinstance(one, list):
            stack.extend((inner, depth + 1) for inner in one)


def branches(schema: Any) -> int:
    """How many alternatives a branch of an allOf has."""
    if not isinstance(schema, dict):
        return 1
    either = sum(branches(one) for k in ("anyOf", "oneOf") for one in schema.get(k, ()))
    both = math.prod(branches(one) for one in schema.get("allOf", ()))
    return max(1, either) * both
