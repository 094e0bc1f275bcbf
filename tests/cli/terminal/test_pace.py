"""Paces from successive answers of the server."""

import pytest

from cli.terminal.pace import SPAN, Pace, Paces


def told(window: float, ended: dict[str, int], tokens: int = 0) -> dict[str, object]:
    row = {
        "model": "m",
        "window_seconds": window,
        "ended": ended,
        "tokens": tokens,
        "throughput": round(sum(ended.values()) / window, 3),
        "tokens_per_second": round(tokens / window, 3),
    }
    return {"models": [row]}


def test_the_first_pace_is_that_of_all_the_minutes() -> None:
    assert Paces().add(told(310, {"succeeded": 31}, 3100)) == {"m": Pace(0.1, 10.0, 310)}


def test_then_it_is_what_ended_since() -> None:
    paces = Paces()
    paces.add(told(310, {"succeeded": 31}, 3100))
    assert paces.add(told(312, {"succeeded": 36, "failed": 1}, 3150)) == {"m": Pace(3, 25, 2)}
    assert paces.add(told(314, {"succeeded": 36, "failed": 1}, 3150)) == {"m": Pace(1.5, 12.5, 4)}


def test_it_looks_back_for_a_while_only() -> None:
    paces = Paces()
    for second in range(0, 40, 2):
        paces.add(told(300 + second, {"succeeded": 2 * min(second, 20)}))
    assert paces.add(told(340, {"succeeded": 40})) == {"m": Pace(0, 0, SPAN)}


def test_a_minute_that_leaves_the_sum_is_no_pace() -> None:
    paces = Paces()
    paces.add(told(356, {"succeeded": 100}, 1000))
    before = paces.add(told(358, {"succeeded": 104}, 1040))
    assert paces.add(told(300, {"succeeded": 12}, 120)) == before
    assert paces.add(told(302, {"succeeded": 22}, 220)) == {"m": Pace(5, 50, 2)}


@pytest.mark.parametrize("gone_by", [0, 0.1])
def test_two_answers_at_once_do_not_make_a_pace(gone_by: float) -> None:
    paces = Paces()
    first = paces.add(told(310, {"succeeded": 31}))
    assert paces.add(told(310 + gone_by, {"succeeded": 32})) == first
