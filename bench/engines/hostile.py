"""What it costs to refuse grammars that were made to cost much; see `shared.grammars`."""

import time
from typing import Any

from bench.engines.result import Series
from shared.grammars.refusal import GrammarRefused
from shared.grammars.sources import check

_DEEP: dict[str, Any] = {"type": "integer"}
for _ in range(500):
    _DEEP = {"type": "array", "items": _DEEP}
HOSTILE: dict[str, dict[str, Any]] = {
    "10,000 alternatives": {"json_schema": {"enum": [f"value {n}" for n in range(10_000)]}},
    "10,000 branches": {"json_schema": {"anyOf": [{"const": n} for n in range(10_000)]}},
    "recursion without an end": {"json_schema": {"$ref": "#"}},
    "500 schemas deep": {"json_schema": _DEEP},
    "a pattern that explodes": {"json_schema": {"pattern": "((((a{1,30}){1,30}){1,30}){1,30})"}},
    "a regex that explodes": {"regex": "(a{1,1000}){1,1000}"},
    "steps of a million": {"json_schema": {"type": "integer", "multipleOf": 999_983}},
    "branches times branches": {
        "json_schema": {
            "allOf": [
                {"anyOf": [{"type": "string", "minLength": n + m} for m in range(10)]}
                for n in range(8)
            ]
        }
    },
    "1,500 optional properties": {
        "json_schema": {"properties": {f"p{n}": {} for n in range(1500)}}
    },
}


def refusals(rounds: int) -> list[Series]:
    """Milliseconds until each is refused."""
    return [
        Series(f"refused: {name}", "ms", [_refused(grammar) for _ in range(rounds)], digits=2)
        for name, grammar in HOSTILE.items()
    ]


def _refused(grammar: dict[str, Any]) -> float:
    began = time.perf_counter()
    try:
        check(grammar)
    except GrammarRefused:
        return 1000 * (time.perf_counter() - began)
    raise AssertionError("a hostile grammar was let in")
