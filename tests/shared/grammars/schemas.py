"""Schemas that say, keyword by keyword, what JSON Schema can say. Written from the keywords' semantics."""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
PATTERNS = (
    *(
        "^a*$",
        "a",
        "^[a-c]{2,4}$",
        "b$",
        "^\\d{3}$",
        "^\\D+$",
        "^\\w\\W\\w$",
        "^\\s|x$",
        "^\\S\\S$",
    ),
    *(
        "^[^a]$",
        "^[^\\d]$",
        "^[^\\D]$",
        "^[\\W]$",
        "^[^\\W_]$",
        "^[^\\s]$",
        "^[a&&b]$",
        "^[[a]$",
        "^[a-]$",
    ),
    *(
        "^.$",
        "^a.b$",
        "^(ab|cd)+$",
        "^(?:x|yz)?$",
        "a|^b$",
        "^a|b$",
        "^a$|^b$",
        "^\\u00e9$",
        "^é🎉$",
    ),
    *(
        "^\\.\\/\\-$",
        "^\\x41$",
        "^a{0}b$",
        "^a{2,}$",
        "^[\\]\\[\\^]$",
        "^[\\b]$",
        "^\\t$",
        "^(a(b(c)?)?)?$",
    ),
    *(
        "",
        "^",
        "$",
        "^$",
        "^a+?b*?$",
        "^[!-/:-@]$",
        "^[\\u4e00-\\u9fff]$",
        "^~~--$",
        "^[a~~b]$",
        "^[!--]$",
    ),
)
REFUSED_PATTERNS = (
    *(
        "(?=a)",
        "(?!a)b",
        "(?<=a)b",
        "(a)\\1",
        "\\bword\\b",
        "\\Ba",
        "(?i)a",
        "(?i:a)",
        "\\p{L}",
        "\\P{Nd}",
    ),
    *(
        "(?<n>a)",
        "a**",
        "a{2",
        "(",
        ")",
        "[",
        "[]",
        "[^]",
        "[b-a]",
        "*a",
        "\\",
        "a{3,1}",
        "\\ca",
        "\\k<n>",
    ),
    *(
        "(^a)",
        "(a$)b",
        "a^b",
        "\\Aa",
        "a\\Z",
        "\\1",
        "\\07",
        "\\u{61}",
        "a{1,2000}",
        "(a{100}){100}",
        "x++",
    ),
    *("[a--b]", "[\\d-z]", "a{,3}", "(?#a)", "(?P<n>a)", "(?>a)"),
)
KNOWN_FORMATS = (
    "date",
    "time",
    "date-time",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
)
OTHER_FORMATS = ("regex", "iri", "idn-email", "json-pointer", "uri-template", "credit-card", "", 7)
NEVER = (
    ("not", {"type": "string"}),
    ("not", {}),
    ("if", {"type": "string"}),
    ("then", {}),
    ("else", {}),
    ("contains", {"type": "integer"}),
    ("minContains", 1),
    ("maxContains", 1),
    ("uniqueItems", True),
    ("propertyNames", {"pattern": "^a"}),
    ("dependentRequired", {"a": ["b"]}),
    ("dependentSchemas", {"a": {"required": ["b"]}}),
    ("dependencies", {"a": ["b"]}),
    ("unevaluatedProperties", False),
    ("unevaluatedItems", False),
    ("additionalItems", False),
    ("$dynamicRef", "#a"),
    ("$recursiveRef", "#"),
    ("$anchor", "here"),
    ("$vocabulary", {}),
    ("disallow", "string"),
    ("extends", {"type": "string"}),
    ("divisibleBy", 2),
    ("nullable", True),
    ("discriminator", {"propertyName": "a"}),
    ("maxLenght", 3),
    ("id", "http://example.com/a"),
)
"""Keywords that are refused wherever they stand."""


def enforced() -> Iterator[Schema]:
    """Schemas that must be taken."""
    yield {}
    for kind in TYPES:
        yield {"type": kind}
        yield {"type": [kind, "null"]}
        yield {"type": "array", "items": {"type": kind}, "maxItems": 3}
        yield object_of(a={"type": kind})
    yield {"type": list(TYPES)}
    yield from _of_numbers()
    yield from _of_strings()
    yield from _of_arrays()
    yield from _of_objects()
    yield from _of_values()
    yield from _of_combinations()
    yield from _of_references()
    yield from _of_annotations()


def object_of(**properties: Any) -> Schema:
    """An object that has these and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _of_numbers() -> Iterator[Schema]:
    bounds: tuple[float, ...] = (
        0,
        1,
        -1,
        7,
        10,
        99,
        100,
        1000,
        -12,
        2**31,
        0.5,
        -0.1,
        1.5,
        99.99,
        3.0,
        1e-3,
        -1e3,
    )
    bounds += (0.1 + 0.2, 1 - 2**-53, 1 + 2**-52, 99.99999999999999, 2**53 + 1, 1e-20)
    for kind in ("integer", "number"):
        for bound in bounds:
            yield {"type": kind, "minimum": bound}
            yield {"type": kind, "maximum": bound}
            yield {"type": kind, "exclusiveMinimum": bound}
            yield {"type": kind, "exclusiveMaximum": bound}
        yield {"type": kind, "minimum": -5, "maximum": 5}
        yield {"type": kind, "exclusiveMinimum": 0, "exclusiveMaximum": 2}
        yield {"type": kind, "minimum": 0, "exclusiveMinimum": 0, "maximum": 1}
        yield {"type": kind, "minimum": 17, "maximum": 17}
        for step in (1, 2, 3, 7, 10, 100, 1000, 0.5, 0.25):
            yield {"type": kind, "multipleOf": step}
        yield {"type": kind, "multipleOf": 5, "minimum": 11, "maximum": 99}
    yield {"minimum": 3}
    yield {"maximum": 3.5}
    yield {"exclusiveMaximum": 0}
    yield {"multipleOf": 4}
    yield {"type": ["number", "string"], "minimum": 1, "maxLength": 2}


def _of_strings() -> Iterator[Schema]:
    for length in (0, 1, 2, 5, 3.0):
        yield {"type": "string", "minLength": length}
        yield {"type": "string", "maxLength": length}
        yield {"type": "string", "minLength": length, "maxLength": length}
        yield {"maxLength": length}
    yield {"type": "string", "minLength": 2, "maxLength": 4}
    for pattern in PATTERNS:
        yield {"type": "string", "pattern": pattern}
    for name in KNOWN_FORMATS:
        yield {"type": "string", "format": name}
    yield {"pattern": "^a$"}
    yield {"format": "date"}


def _of_arrays() -> Iterator[Schema]:
    for count in (0, 1, 2, 3.0):
        yield {"type": "array", "items": {"type": "null"}, "minItems": count}
        yield {"type": "array", "items": {"type": "null"}, "maxItems": count}
        yield {"type": "array", "items": {"type": "null"}, "minItems": count, "maxItems": count}
    yield {"type": "array", "items": False}
    yield {"type": "array", "items": True, "maxItems": 2}
    yield {"items": {"enum": [1, "a"]}}
    yield {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "null"}]}
    yield {"type": "array", "prefixItems": [{"type": "integer"}], "items": False}
    yield {"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 2}
    yield {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "minItems": 2}
    yield {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "maxItems": 1}
    yield {"type": "array", "items": {"type": "array", "items": {"type": "null"}}, "maxItems": 2}
    yield {"type": "array", "uniqueItems": False, "items": {"type": "null"}}
    for draft in ("draft-06/schema#", "draft-07/schema#", "draft/2019-09/schema"):
        scheme = "https" if "2019" in draft else "http"
        tuples = {"$schema": f"{scheme}://json-schema.org/{draft}", "type": "array"}
        yield {**tuples, "items": [{"type": "integer"}, {"type": "null"}], "maxItems": 3}
        yield {**tuples, "items": [{"const": 1}], "additionalItems": False}
        yield {**tuples, "items": [{"const": 1}], "additionalItems": {"const": 2}, "minItems": 2}


def _of_objects() -> Iterator[Schema]:
    yield {"type": "object", "additionalProperties": False}
    yield {"type": "object", "additionalProperties": {"type": "null"}}
    yield {"type": "object", "properties": {"a": {"type": "integer"}}}
    yield {"properties": {"a": {"type": "integer"}}}
    yield {"type": "object", "properties": {"a": {"type": "integer"}, "b": True}, "required": ["a"]}
    yield {"type": "object", "required": ["a"]}
    yield {"type": "object", "required": ["a", "b"], "additionalProperties": {"type": "boolean"}}
    yield {"type": "object", "required": [], "properties": {"a": {"type": "null"}}}
    yield {"required": ["x"]}
    for name in (
        "",
        "a b",
        "é",
        '"',
        "\\",
        "\n",
        "$ref",
        "type",
        "🎉",
        "a/b",
        "~",
        "constructor",
        "__proto__",
    ):
        yield object_of(**{name: {"type": "boolean"}})
        yield {"type": "object", "properties": {name: {"type": "null"}}, "required": [name]}
    yield {"type": "object", "properties": {"a": False}}
    yield {
        "type": "object",
        "properties": {"a": {"const": 1}},
        "additionalProperties": {"const": 2},
    }
    for pattern in ("^a", "^[a-z]$", "b", "^x-[0-9]+$", "^.*$"):
        yield {"type": "object", "patternProperties": {pattern: {"type": "null"}}}
        yield {
            "type": "object",
            "patternProperties": {pattern: {"type": "null"}},
            "additionalProperties": False,
        }
    yield {
        "type": "object",
        "properties": {"ab": {"type": "integer"}},
        "patternProperties": {"^a": {"minimum": 5}, "^b": {"maximum": 7}},
        "additionalProperties": {"const": "x"},
    }
    yield {"type": "object", "maxProperties": 0}
    yield {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "null"}}
    yield {**object_of(a={"type": "null"}, b={"type": "null"}), "minProperties": 2}
    yield {**object_of(a={"type": "null"}), "maxProperties": 3}


def _of_values() -> Iterator[Schema]:
    values: tuple[Any, ...] = (
        *(
            None,
            True,
            False,
            0,
            1,
            -1,
            1.5,
            0.1,
            1e10,
            "",
            "a",
            "é🎉",
            '"quoted"',
            "back\\slash",
            "\n",
        ),
        *(
            [],
            [1, "a", None],
            {},
            {"a": 1},
            {"b": [1], "a": {"c": None}},
            "\u2028",
            "</script>",
        ),
    )
    for value in values:
        yield {"const": value}
        yield {"enum": [value, 12345]}
    yield {"enum": [1, 1.0, "1", [1]]}
    yield {"type": "integer", "enum": [1, "a", 2.5, 3]}
    yield {"type": "string", "enum": ["a", "bb", "ccc"], "maxLength": 2}
    yield {"enum": [1, 5, 9], "minimum": 4}
    yield {"const": 5, "type": ["integer", "null"]}
    yield {"enum": [f"value {n}" for n in range(300)]}


def _of_combinations() -> Iterator[Schema]:
    yield {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 2}]}
    yield {"anyOf": [{"minimum": 3}, {"maximum": 1}], "type": "integer"}
    yield {"anyOf": [True, False]}
    yield {"anyOf": [{"const": 1}, {"const": 2}], "enum": [2, 3]}
    yield {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 9}]}
    yield {"allOf": [{"type": ["integer", "string"]}, {"type": ["string", "null"]}]}
    yield {"allOf": [{"pattern": "^a"}, {"pattern": "b$"}], "type": "string"}
    yield {"allOf": [{"minLength": 2}, {"maxLength": 3}], "type": "string"}
    yield {"allOf": [object_of(a={"type": "integer"}), {"properties": {"a": {"minimum": 4}}}]}
    yield {"allOf": [{"required": ["a"]}, {"properties": {"a": {"const": 1}}}], "type": "object"}
    yield {"allOf": [{"multipleOf": 4}, {"multipleOf": 6}], "type": "integer"}
    yield {
        "allOf": [{"anyOf": [{"const": 1}, {"const": 2}]}, {"anyOf": [{"const": 2}, {"const": 3}]}]
    }
    yield {"allOf": [True, {"type": "null"}]}
    yield {"oneOf": [{"type": "integer"}, {"type": "string", "maxLength": 2}]}
    yield {"oneOf": [object_of(k={"const": "a"}, x={"type": "null"}), object_of(k={"const": "b"})]}
    yield {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {"const": 1}]}}}
    yield {"anyOf": [object_of(a={"type": "null"}), object_of(b={"type": "null"})]}
    yield {"anyOf": [{"allOf": [{"type": "integer"}, {"minimum": 2}]}, {"type": "null"}]}


def _of_references() -> Iterator[Schema]:
    yield {"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}}
    yield {"$ref": "#/definitions/a", "definitions": {"a": {"enum": [1]}}}
    yield {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}
    yield {"$ref": "#/$defs/a~0b", "$defs": {"a~b": {"type": "null"}}}
    yield {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "boolean"}}}
    yield {"$ref": "#/$defs/a", "minimum": 5, "$defs": {"a": {"type": "integer", "maximum": 9}}}
    yield {
        "$ref": "#/$defs/tree",
        "$defs": {
            "tree": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/tree"}]}},
                "required": ["next"],
                "additionalProperties": False,
            }
        },
    }
    yield {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"$ref": "#/properties/a"}},
        "required": ["b"],
        "additionalProperties": False,
    }
    yield {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}
    for name, spelled in (
        ("é", "é"),
        ("é", "%C3%A9"),
        ("a b", "a b"),
        ("a b", "a%20b"),
        ("a%b", "a%25b"),
        ("a/b", "a~1b"),
        ("a/b", "a%7E1b"),
        ('"', "%22"),
    ):
        yield {"$ref": f"#/$defs/{spelled}", "$defs": {name: {"type": "boolean"}}}
    yield {"anyOf": [{"type": "null"}, {"$ref": "#/anyOf/0"}]}
    yield {"$defs": {"pattern": {"type": "string", "pattern": "^\\d$"}}, "$ref": "#/$defs/pattern"}


def _of_annotations() -> Iterator[Schema]:
    for name, value in (
        *(
            ("title", "t"),
            ("description", "d"),
            ("default", 7),
            ("examples", [1]),
            ("deprecated", True),
        ),
        *(
            ("readOnly", True),
            ("writeOnly", True),
            ("$comment", "c"),
            ("contentEncoding", "base64"),
        ),
        *(
            ("contentMediaType", "application/json"),
            ("x-anything", {"not": {}}),
            ("x-guidance", {"lenient": True}),
        ),
        *(
            ("$id", "https://example.com/schema"),
            ("$schema", "https://json-schema.org/draft/2020-12/schema"),
        ),
        ("$schema", "http://json-schema.org/draft-07/schema#"),
    ):
        yield {"type": "boolean", name: value}


def refused() -> Iterator[tuple[str, Schema]]:
    """Schemas that must not be taken, and the keyword that a refusal names."""
    for keyword, value in NEVER:
        yield keyword, {keyword: value}
        yield keyword, {"type": "object", "properties": {"a": {keyword: value}}}
        yield keyword, {"anyOf": [{"type": "null"}, {keyword: value}]}
        yield keyword, {"$defs": {"a": {keyword: value}}, "$ref": "#/$defs/a"}
        yield keyword, {"x-guidance": {"lenient": True}, keyword: value}
    for pattern in REFUSED_PATTERNS:
        yield "pattern", {"type": "string", "pattern": pattern}
        yield "patternProperties", {"patternProperties": {pattern: {}}}
    for name in OTHER_FORMATS:
        yield "format", {"type": "string", "format": name}
    yield "patternProperties", {"patternProperties": {"^\\d": {}}}
    yield "patternProperties", {"patternProperties": {"^a": {"minimum": 5}, "b$": {"maximum": 7}}}
    yield "maxProperties", {"maxProperties": 2, "properties": {"a": True, "b": True, "c": True}}
    yield "oneOf", {"oneOf": [{"type": "integer"}, {"type": "number"}]}
    yield "oneOf", {"oneOf": [{}, {}]}
    yield "multipleOf", {"type": "number", "multipleOf": 0.01}
    yield "multipleOf", {"multipleOf": 0}
    yield "multipleOf", {"multipleOf": -2}
    yield "multipleOf", {"multipleOf": 99991}
    yield "multipleOf", {"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]}
    yield "minProperties", {"type": "object", "minProperties": 1}
    yield "minProperties", {"minProperties": 2, "required": ["a"], "properties": {"a": {}}}
    yield "items", {"items": [{"type": "integer"}]}
    older = {"$schema": "http://json-schema.org/draft-07/schema#"}
    yield "prefixItems", {**older, "prefixItems": [{"type": "integer"}]}
    yield "additionalItems", {**older, "items": {}, "additionalItems": False}
    yield "items", {**older, "items": []}
    for number in (2**53 + 1, -(2**53) - 1, 2**62 + 1, 1e100):
        yield "const", {"const": number}
        yield "const", {"const": {"a": [1, number]}}
        yield "enum", {"enum": ["a", number]}
    yield "minimum", {"type": "number", "minimum": 1e20}
    yield "$ref", {"$ref": "https://example.com/other"}
    yield "$ref", {"$ref": "other.json#/a"}
    yield "$ref", {"$ref": "#/$defs/missing"}
    yield "$ref", {"$ref": "#/default", "default": {"type": "string"}}
    yield "$ref", {"$ref": "#/const", "const": {"type": "string"}}
    yield "$ref", {"$ref": 7}
    yield "$schema", {"$schema": "http://json-schema.org/draft-04/schema#"}
    yield "$id", {"properties": {"a": {"$id": "b"}}}
    yield "type", {"type": "text"}
    yield "type", {"type": []}
    yield "type", {"type": 7}
    yield "enum", {"enum": []}
    yield "enum", {"enum": "a"}
    yield "anyOf", {"anyOf": []}
    yield "anyOf", {"anyOf": {}}
    yield "minimum", {"minimum": "a"}
    yield "exclusiveMinimum", {"minimum": 1, "exclusiveMinimum": True}
    yield "minLength", {"minLength": -1}
    yield "maxItems", {"maxItems": 1.5}
    yield "required", {"required": "a"}
    yield "required", {"required": [1]}
    yield "properties", {"properties": []}
    yield "a", {"properties": {"a": 7}}
    yield "json_schema", {"type": "integer", "minimum": 5, "maximum": 4}
    yield "json_schema", {"$ref": "#"}
    yield "json_schema", {"const": "\x01"}
    yield "json_schema", {"allOf": [{"const": 1}, {"const": 2}]}
    yield "json_schema", {"type": "object", "required": ["a"], "additionalProperties": False}
