"""JSON schemas: what of them can be enforced, written so that llguidance enforces it, within bounds of work.

Keywords that are not known here are refused, so none is passed over in silence. What readers of JSON do not
agree on is narrowed to what all of them accept.
"""

import math
from collections.abc import Mapping
from typing import Any

from shared.domain.requests.grammars import MAX_ALTERNATIVES
from shared.grammars import numbers, references
from shared.grammars.formats import PATTERNS
from shared.grammars.patterns import PatternRefused, enforceable
from shared.grammars.refusal import GrammarRefused, Place
from shared.grammars.schema_size import MAX_DEPTH, branches, check_size

MAX_SCHEMAS = 2000
MAX_WORK = 5000
"""About 10 µs each, to compile it: those of a 200-property schema are some 2,000."""
WORK = {
    "format": 180,
    "pattern": 40,
    "minimum": 100,
    "maximum": 100,
    "minLength": 7,
    "maxLength": 7,
}
WORK |= {"exclusiveMinimum": 100, "exclusiveMaximum": 100, "multipleOf": 100}
WORK_A_SCHEMA, WORK_A_NAME_PATTERN, WORK_A_VALUE = 9, 110, 2
MAX_PRODUCT = 64
"""Alternatives that stand for all combinations of the branches of an allOf."""

ANNOTATIONS = frozenset(
    (
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("$comment", "contentMediaType", "contentEncoding", "contentSchema"),
    )
)
"""Said about a value, not of it. Names that begin with `x-` are taken for such too."""
DIALECTS = ("draft/2020-12", "draft/2019-09", "draft-07", "draft-06")
"""The newest first; the others have tuples under other names."""
TUPLES = ("items", "additionalItems")
FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
)
COUNTS = frozenset(("minLength", "maxLength", "minItems", "maxItems", "minProperties"))
COUNTS |= {"maxProperties"}
ONE = ("items", "additionalProperties")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
NAMED = ("properties", "patternProperties", "$defs", "definitions")
GUIDANCE = {"whitespace_flexible": False, "json_allowed_escapes": 'nrbtf\\"'}
"""What llguidance is told of every schema. No blanks between the parts of JSON, for small models would write
nothing else. And no `\\u0061`: a name that is spelled so would pass for one that `properties` does not have.
"""
UNSUPPORTED = "this keyword cannot be enforced"

Schema = dict[str, Any]


def enforceable_schema(
    schema: Mapping[str, Any], place: Place, base: tuple[str, ...] = ("params", "grammar")
) -> Schema:
    """A copy of the schema for llguidance; `with_guidance` adds its options. `place` is where it stands in
    that part of the request.

    Raises `GrammarRefused` with the keyword, or the bound, that stands against it.
    """
    check_size(schema, place, base)
    return _Checker(place, base).check(schema)


def with_guidance(schema: Mapping[str, Any]) -> Schema:
    """An enforceable schema that is to stand as a whole."""
    return {"x-guidance": GUIDANCE, **schema}


class _Checker:
    """Walks one schema, counts what it costs and refuses what cannot be enforced."""

    def __init__(self, place: Place, base: tuple[str, ...]) -> None:
        self._place = place
        self._base = base
        self._schemas = self._work = self._alternatives = 0
        self._places: set[Place] = set()
        self._references: list[tuple[Place, Place]] = []
        self._steps = numbers.Steps()
        self._older = False
        """The schema names a draft before 2020-12, where `items` may be a list."""

    def check(self, schema: Mapping[str, Any]) -> Schema:
        """The whole schema, as the grammar engine is to get it."""
        named = str(schema.get("$schema", ""))
        self._older = any(f"/{name}/schema" in named for name in DIALECTS[1:])
        found = self._schema(schema, ())
        assert isinstance(found, dict)
        for place, target in self._references:
            if target not in self._places:
                raise self._refused(place, "$ref", "there is no schema at this place")
        return found

    def _schema(self, schema: Any, place: Place) -> Schema | bool:
        self._places.add(place)
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise self._refused(place, str(place[-1]) if place else "json_schema", "not a schema")
        if len(place) > 2 * MAX_DEPTH:
            raise self._refused((), "json_schema", f"schemas are nested at most {MAX_DEPTH} deep")
        self._count(schemas=1, work=WORK_A_SCHEMA)
        found: Schema = {}
        tuples = self._older and isinstance(schema.get("items"), list)
        for keyword, value in schema.items():
            if keyword in ANNOTATIONS or keyword.startswith("x-"):
                continue
            if tuples and keyword in TUPLES:
                found.update(self._tuple(keyword, value, place))
            else:
                found.update(self._keyword(keyword, value, place))
        found = self._narrow(found, place)
        self._check_products(found, place)
        return found

    def _keyword(self, keyword: str, value: Any, place: Place) -> Schema:
        """What becomes of one keyword."""
        here = (*place, keyword)
        self._count(work=WORK.get(keyword, 0))
        if keyword in ("$schema", "$id"):
            self._check_identity(keyword, value, place)
            return {}
        if keyword in NAMED:
            return {keyword: self._named(keyword, value, here)}
        if keyword in LISTS:
            if keyword == "prefixItems" and self._older:
                raise self._refused(place, keyword, "in the draft of $schema it is called items")
            return {keyword: self._list(keyword, value, here)}
        if keyword in ONE:
            if isinstance(value, list):
                raise self._refused(place, keyword, "a list of schemas is called prefixItems")
            return {keyword: self._schema(value, here)}
        if keyword in COUNTS:
            return {keyword: self._whole(keyword, value, place)}
        if keyword in numbers.BOUNDS:
            if not numbers.is_number(value):
                raise self._refused(place, keyword, "must be a number")
            return {keyword: value}
        return self._value(keyword, value, place)

    def _list(self, keyword: str, value: Any, here: Place) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise self._refused(here[:-1], keyword, "a list of schemas that is not empty")
        self._count(alternatives=len(value))
        return [self._schema(one, (*here, n)) for n, one in enumerate(value)]

    def _tuple(self, keyword: str, value: Any, place: Place) -> Schema:
        """A keyword of drafts before 2020-12 beside a list of items, by the name that it has since then."""
        here = (*place, keyword)
        if keyword == "items":
            return {"prefixItems": self._list(keyword, value, here)}
        return {"items": self._schema(value, here)}

    def _value(self, keyword: str, value: Any, place: Place) -> Schema:
        match keyword:
            case "multipleOf":
                try:
                    self._steps.add(value)
                except ValueError as error:
                    raise self._refused(place, keyword, str(error)) from None
            case "pattern":
                return {keyword: self._pattern(value, place, keyword)}
            case "format":
                if value not in FORMATS:
                    raise self._refused(place, keyword, f"{str(value)[:32]!r} cannot be enforced")
            case "enum":
                if not isinstance(value, list) or not value:
                    raise self._refused(place, keyword, "a list that is not empty")
                self._count(alternatives=len(value), work=WORK_A_VALUE * len(value))
                self._check_constant(keyword, value, place)
            case "$ref":
                return {keyword: self._refer(value, place)}
            case "uniqueItems" if value is False:
                return {}
            case "type":
                self._check_type(value, place)
            case "required":
                self._check_required(value, place)
            case "const":
                self._check_constant(keyword, value, place)
            case _:
                raise self._refused(place, keyword, UNSUPPORTED)
        return {keyword: value}

    def _named(self, keyword: str, value: Any, here: Place) -> Schema:
        if not isinstance(value, dict):
            raise self._refused(here[:-1], keyword, "an object of schemas")
        if keyword == "patternProperties":
            self._count(work=WORK_A_NAME_PATTERN * len(value))
            return {
                self._pattern(name, here, name, of_names=True): self._schema(one, (*here, name))
                for name, one in value.items()
            }
        return {name: self._schema(one, (*here, name)) for name, one in value.items()}

    def _pattern(self, value: Any, place: Place, keyword: str, *, of_names: bool = False) -> str:
        name = "patternProperties" if of_names else keyword
        place = place[:-1] if of_names else place
        if not isinstance(value, str):
            raise self._refused(place, name, "must be a regular expression")
        try:
            return enforceable(value, of_names=of_names)
        except PatternRefused as error:
            raise self._refused(place, name, str(error)) from None

    def _check_constant(self, keyword: str, value: Any, place: Place) -> None:
        if (number := numbers.first_inexact(value)) is not None:
            why = f"{number} has more digits than readers of JSON keep; make it a string"
            raise self._refused(place, keyword, why)

    def _check_identity(self, keyword: str, value: Any, place: Place) -> None:
        if place:
            raise self._refused(place, keyword, "may stand in the whole schema only")
        if keyword == "$schema" and not any(f"/{name}/schema" in str(value) for name in DIALECTS):
            raise self._refused(place, keyword, "one of the drafts 2020-12, 2019-09, 7 and 6")

    def _check_type(self, value: Any, place: Place) -> None:
        kinds = value if isinstance(value, list) else [value]
        known = ("object", "array", "string", "number", "integer", "boolean", "null")
        if not kinds or any(kind not in known for kind in kinds if isinstance(kind, str)):
            raise self._refused(place, "type", f"one of {', '.join(known)}, or a list of them")
        if not all(isinstance(kind, str) for kind in kinds):
            raise self._refused(place, "type", "must be a name or a list of names")

    def _check_required(self, value: Any, place: Place) -> None:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self._refused(place, "required", "must be a list of names")

    def _whole(self, keyword: str, value: Any, place: Place) -> int:
        if not numbers.is_number(value) or value != int(value) or not 0 <= value < 2**31:
            raise self._refused(place, keyword, "must be a whole number below 2**31")
        return int(value)

    def _refer(self, value: Any, place: Place) -> str:
        if not isinstance(value, str) or (value != "#" and not value.startswith("#/")):
            raise self._refused(place, "$ref", 'only "#" and "#/…", within this schema')
        path = references.path_of(value)
        self._references.append((place, references.target(path, LISTS)))
        return references.encoded(path)

    def _narrow(self, found: Schema, place: Place) -> Schema:
        """Keywords that only hold together."""
        least = found.pop("minProperties", 0)
        if least:
            # A name may be written twice, and is one member then, so only names that must be there count.
            sure = set(found.get("required", ())) & set(found.get("properties", {}))
            if len(sure) < least:
                why = "more than the required properties cannot be enforced"
                raise self._refused(place, "minProperties", why)
        if (exact := PATTERNS.get(found.get("format", ""))) is not None:
            del found["format"]
            if "pattern" in found:
                found["allOf"] = [*found.get("allOf", ()), {"pattern": enforceable(exact)}]
            else:
                found["pattern"] = enforceable(exact)
        return numbers.narrowed(found)

    def _check_products(self, found: Schema, place: Place) -> None:
        every = math.prod(branches(one) for one in found.get("allOf", ()))
        beside = math.prod(len(found.get(keyword, (1,))) for keyword in ("anyOf", "oneOf"))
        if every * beside > MAX_PRODUCT:
            keyword = "allOf" if every > 1 else "anyOf"
            raise self._refused(place, keyword, f"more than {MAX_PRODUCT} combinations of branches")

    def _count(self, *, schemas: int = 0, work: int = 0, alternatives: int = 0) -> None:
        self._schemas += schemas
        self._work += work
        self._alternatives += alternatives
        if self._schemas > MAX_SCHEMAS:
            raise self._refused((), "json_schema", f"at most {MAX_SCHEMAS} schemas")
        if self._alternatives > MAX_ALTERNATIVES:
            why = f"at most {MAX_ALTERNATIVES} members of enums and branches of anyOf, all together"
            raise self._refused((), "json_schema", why)
        if self._work > MAX_WORK:
            why = "too much work to compile: use fewer properties, formats, patterns and ranges"
            raise self._refused((), "json_schema", why)

    def _refused(self, place: Place, keyword: str, why: str) -> GrammarRefused:
        return GrammarRefused((*self._place, *place), keyword, why, self._base)
