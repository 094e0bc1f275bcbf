from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import InputRefused
from shared.domain.models.catalog import ModelSpec
from tests.engine_driver import drive
from workers.engines.base import Work
from workers.engines.echo import LONGEST_NAP, Echo


class Clock:
    """Time that passes when the test says so, and a nap that takes none."""

    def __init__(self) -> None:
        self.now = 100.0
        self.naps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def nap(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("workers.engines.echo.time.sleep", clock.nap)
    return clock


def echo(step_ms: float = 0.0, **options: Any) -> Echo:
    return Echo(ModelSpec(name="echo", engine="echo", step_ms=step_ms), **options)


def test_without_a_pace_everything_is_one_piece_in_one_step() -> None:
    engine = echo()

    ran = drive(engine, [Work(str(n), "two words", {"repeat": 3}, 0) for n in range(3)])

    assert len(ran.steps) == 1
    assert [piece.text for piece in ran.pieces["1"]] == ["two words" * 3]
    assert ran.finished("1").usage == {"batch_size": 3}


@given(st.text(max_size=30), st.integers(1, 4))
def test_words_with_their_spaces_make_the_prompt(prompt: str, repeat: int) -> None:
    ran = drive(echo(step_ms=1e-6), [Work("a", prompt, {"repeat": repeat}, 0)])

    assert ran.streamed("a") == ran.text("a") == prompt * repeat
    assert [piece.token_ids for piece in ran.pieces.get("a", [])] == [
        (n,) for n in range(len(ran.pieces.get("a", [])))
    ]


def test_every_job_goes_at_its_own_pace(clock: Clock) -> None:
    engine = echo(step_ms=5, clock=clock)
    engine.admit(Work("slow", "one two", {"step_ms": 50.0}, 0))
    engine.admit(Work("fast", "one two three four", {"step_ms": None}, 0))

    said: list[tuple[str, float]] = []
    while engine.pending():
        said += [(piece.id, round(clock.now - 100, 3)) for piece in engine.step().pieces]

    assert said == [
        ("fast", 0.005),
        ("fast", 0.010),
        ("fast", 0.015),
        ("fast", 0.020),
        ("slow", 0.050),
        ("slow", 0.100),
    ]


def test_a_slow_job_never_holds_the_loop_for_long(clock: Clock) -> None:
    engine = echo(step_ms=60_000, clock=clock)
    engine.admit(Work("slow", "word", {}, 0))

    step = engine.step()

    assert step.pieces == []
    assert max(clock.naps) <= LONGEST_NAP


def test_it_goes_on_in_the_middle_of_a_word() -> None:
    ran = drive(echo(step_ms=1e-6), [Work("a", "hello big world", {}, 0, text="hello bi")])

    assert [piece.text for piece in ran.pieces["a"]] == ["g ", "world"]
    assert ran.text("a") == "hello big world"


def test_an_answer_without_bounds_is_refused() -> None:
    engine = echo()

    with pytest.raises(InputRefused, match="longer than"):
        engine.admit(Work("a", "x" * 1000, {"repeat": 100_000}, 0))
    assert engine.pending() == 0
