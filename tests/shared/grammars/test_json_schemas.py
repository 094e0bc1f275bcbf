import json
from typing import Any

import jsonschema
import pytest
from llguidance import LLMatcher

from shared.grammars.refusal import GrammarRefused
from shared.grammars.sources import BYTES, check, compiled, source_of
from tests.shared.grammars import schemas
from tests.shared.grammars.walks import Unfinished, walk

ENFORCED = list(schemas.enforced())
REFUSED = list(schemas.refused())
WALKS = 4


def test_the_schemas_are_many() -> None:
    assert len(ENFORCED) + len(REFUSED) >= 300
    assert len(ENFORCED) >= 250


@pytest.mark.parametrize("part", range(2))
def test_no_text_of_a_schema_that_is_taken_violates_it(part: int) -> None:
    violated: list[Any] = []
    ended = 0
    for schema in ENFORCED[part::2]:
        check({"json_schema": schema})
        kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
        valid = kind(schema, format_checker=kind.FORMAT_CHECKER)
        for seed in range(WALKS):
            try:
                text = walk({"json_schema": schema}, seed, 150)
            except Unfinished:
                continue
            ended += 1
            if not valid.is_valid(json.loads(text)):
                violated.append((schema, text))

    assert not violated
    assert ended > len(ENFORCED) / 2 * WALKS / 3


@pytest.mark.parametrize("name", ["a", "é", "\x7f", "\n", '"', "\\", "/"])
def test_a_name_is_not_spelled_in_another_way_to_pass_for_another_name(name: str) -> None:
    schema = {"properties": {name: {"const": 1}}, "additionalProperties": {"const": 2}}
    source = source_of({"json_schema": {"type": "object", **schema}})
    written = {json.dumps(name), json.dumps(name, ensure_ascii=False)}
    written |= {f'"\\u{ord(name):04x}"', f'"\\u{ord(name):04X}"'}

    taken = {
        (spelled, value)
        for spelled in written
        for value in (1, 2)
        if takes(compiled(source, BYTES), f"{{{spelled}:{value}}}")
    }

    assert taken
    assert all(value == 1 for _, value in taken)


@pytest.mark.parametrize(
    ("name", "valid", "invalid"),
    [
        (
            "date",
            ("2024-02-29", "2000-02-29", "2023-12-31", "0001-01-01"),
            ("2023-02-29", "1900-02-29", "2024-02-30", "0000-01-01", "2023-04-31", "2023-1-01"),
        ),
        (
            "date-time",
            ("2024-02-29T23:59:59Z", "2023-01-01T00:00:00.25+23:59"),
            ("2023-02-29T00:00:00Z", "2023-01-01T12:59:60Z", "2023-01-01T24:00:00Z", "2023-01-01"),
        ),
        ("time", ("12:00:00Z", "00:59:01.5-08:00"), ("12:00:00", "12:59:60Z", "12:00Z")),
        ("hostname", ("a", "www.example-a.com"), ("-a", "a-", "a..b", "a." * 130 + "a", "x" * 64)),
        ("ipv4", ("1.2.3.4",), ("256.1.1.1", "01.2.3.4")),
        ("ipv6", ("::1", "1:2:3:4:5:6:7:8"), ("1::2::3", "12345::", "1:2:3:4:5:6:7")),
        ("uuid", ("2eb8aa08-aa98-11ea-b4aa-73b441d16380",), ("2eb8aa08aa9811eab4aa73b441d16380",)),
    ],
)
def test_a_format_takes_what_it_says(
    name: str, valid: tuple[str, ...], invalid: tuple[str, ...]
) -> None:
    for beside in ({}, {"pattern": "."}):
        source = source_of({"json_schema": {"type": "string", "format": name, **beside}})

        assert all(takes(compiled(source, BYTES), f'"{text}"') for text in valid)
        assert not any(takes(compiled(source, BYTES), f'"{text}"') for text in invalid)


@pytest.mark.parametrize(
    ("bound", "outside"),
    [
        ({"minimum": 2**53 + 1}, 2**53),
        ({"exclusiveMinimum": 2**53}, 2**53),
        ({"maximum": -(2**53) - 1}, -(2**53)),
        ({"exclusiveMaximum": -(2**53)}, -(2**53)),
    ],
)
def test_a_bound_that_no_float_holds_is_not_widened(bound: dict[str, int], outside: int) -> None:
    source = source_of({"json_schema": {"type": "integer", **bound}})

    assert not takes(compiled(source, BYTES), str(outside))
    assert takes(compiled(source, BYTES), f"{outside}0")


@pytest.mark.parametrize("constant", [2**53, -(2**53), 1e22, 0.1, 1.5e-7, -2.5, True, None])
def test_a_constant_is_written_as_what_it_is(constant: Any) -> None:
    texts = {walk({"json_schema": {"enum": [constant]}}, seed) for seed in range(2)}

    assert [json.loads(text) == constant for text in texts] == [True]


def takes(matcher: LLMatcher, text: str) -> bool:
    said = list(text.encode())
    return bool(matcher.try_consume_tokens(said) == len(said) and matcher.is_accepting())


@pytest.mark.parametrize("part", range(2))
def test_what_cannot_be_enforced_is_refused_by_its_keyword(part: int) -> None:
    for keyword, schema in REFUSED[part::2]:
        with pytest.raises(GrammarRefused) as caught:
            check({"json_schema": schema})
        assert (keyword, schema) == (caught.value.keyword, schema)
        assert keyword in caught.value.detail
        assert caught.value.errors[0]["loc"][:2] == ["params", "grammar"]
