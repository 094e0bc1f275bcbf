import re
import time
from typing import Any

import pytest

from shared.domain.requests.grammars import MAX_GRAMMAR
from shared.grammars.refusal import GrammarRefused
from shared.grammars.sources import BYTES, check, compiled, source_of
from tests.shared.grammars.walks import Unfinished, walk

REGEXES = (
    "a*",
    "[a-f0-9]{4}",
    "\\d+(\\.\\d+)?",
    "é|🎉|\\/",
    "(x|yy)+z?",
    '[^"\\\\]{3}',
    "^ab$",
    "\\w\\W",
)
CHOICES = (["a"], ["a b", 'say "x"', "back\\slash", "é\n🎉", "</s>", "/a/", "%json {}"])
LARKS = (
    ('start: "a" b+\nb: "b" | "c"\n', "a[bc]+"),
    ('start: WORD ("," WORD)*\nWORD: /[a-z]{1,3}/\n', "[a-z]{1,3}(,[a-z]{1,3})*"),
    ('start: "(" start ")" | "x"\n', r"\(*x\)*"),
)
DEEP: dict[str, Any] = {"type": "integer"}
for _ in range(500):
    DEEP = {"type": "array", "items": DEEP}
BRANCHES = [
    {"anyOf": [{"type": "string", "minLength": n + m} for m in range(10)]} for n in range(8)
]
HOSTILE = {
    "10,000 alternatives": {"json_schema": {"enum": [f"value {n}" for n in range(10_000)]}},
    "10,000 branches": {"json_schema": {"anyOf": [{"const": n} for n in range(10_000)]}},
    "2,000 choices of an enum": {"json_schema": {"enum": list(range(2000))}},
    "nested 500 deep": {"json_schema": DEEP},
    "endless recursion": {"json_schema": {"$ref": "#"}},
    "recursion by allOf": {
        "json_schema": {"allOf": [{"$ref": "#"}], "type": "object", "required": ["a"]}
    },
    "branches times branches": {"json_schema": {"allOf": BRANCHES}},
    "a step of a million": {"json_schema": {"type": "integer", "multipleOf": 999_983}},
    "steps that multiply": {"json_schema": {"allOf": [{"multipleOf": n} for n in (997, 991, 983)]}},
    "100 formats": {
        "json_schema": {"properties": {f"p{n}": {"format": "uri"} for n in range(100)}}
    },
    "repeated repetitions": {"json_schema": {"pattern": "((((a{1,30}){1,30}){1,30}){1,30})"}},
    "a long pattern": {"json_schema": {"pattern": "a?" * 3000}},
    "1,000 nested groups": {"json_schema": {"pattern": "(" * 1000 + ")" * 1000}},
    "a large regex": {"regex": "(a{1,1000}){1,1000}"},
    "long choices": {"choices": ["x" * 1000 + str(n) for n in range(200)]},
    "a Lark grammar of steps": {"lark": 'start: %json {"multipleOf": 999983}'},
    "a Lark grammar's options": {"lark": '%llguidance {"lexer_timeout": 1}\nstart: "a"'},
    "a Lark repetition": {"lark": "start: /a{1,100000}/"},
    "Lark rules without an end": {"lark": "start: a\na: a"},
    "too many properties": {"json_schema": {"properties": {f"p{n}": {} for n in range(1500)}}},
}


@pytest.mark.parametrize("regex", REGEXES)
def test_a_regular_expression_matches_the_whole_text(regex: str) -> None:
    for seed in range(10):
        try:
            assert re.fullmatch(regex, walk({"regex": regex}, seed, 60))
        except Unfinished:
            continue


@pytest.mark.parametrize("choices", CHOICES)
def test_a_choice_is_taken_as_it_is(choices: list[str]) -> None:
    found = {walk({"choices": choices}, seed) for seed in range(30)}

    assert found == set(choices)


@pytest.mark.parametrize(("lark", "regex"), LARKS)
def test_a_lark_grammar_is_followed(lark: str, regex: str) -> None:
    for seed in range(10):
        try:
            assert re.fullmatch(regex, walk({"lark": lark}, seed, 60))
        except Unfinished:
            continue


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_cost_too_much_is_refused_by_its_bound(name: str) -> None:
    began = time.process_time()

    with pytest.raises(GrammarRefused) as caught:
        check(HOSTILE[name])

    # What hostile grammars cost llguidance unbounded is seconds to minutes.
    assert time.process_time() - began < 1
    assert caught.value.keyword in caught.value.detail


@pytest.mark.parametrize(
    "grammar",
    [{"lark": "start: nobody"}, {"lark": "no grammar"}, {"regex": "("}, {"regex": "a\\1"}],
)
def test_what_is_no_grammar_is_refused(grammar: dict[str, Any]) -> None:
    with pytest.raises(GrammarRefused):
        check(grammar)


def test_a_source_is_the_same_each_time() -> None:
    grammar = {"json_schema": {"properties": {"b": {}, "a": {"pattern": "^x"}}, "required": ["a"]}}

    assert source_of(grammar) == source_of(grammar)
    assert grammar["json_schema"]["properties"]["a"] == {"pattern": "^x"}  # type: ignore[index]
    assert len(source_of(grammar)) < MAX_GRAMMAR


def test_an_ambiguous_grammar_ends_its_text_before_its_tokens_become_dear() -> None:
    matcher = compiled(source_of({"lark": 'start: a\na: a a | "x" | a a a\n'}), BYTES)

    said = 0
    while not matcher.is_error() and said < 400:
        matcher.compute_bitmask()
        matcher.consume_token(ord("x"))
        said += 1

    assert 20 < said < 400


def test_more_optional_properties_than_a_text_could_follow_are_refused_at_once() -> None:
    few, many = ({"properties": {f"p{n}": {} for n in range(count)}} for count in (300, 540))

    check({"json_schema": few})
    with pytest.raises(GrammarRefused):
        check({"json_schema": many})
