"""The bound of a step: halved at once, grown back slowly, remembered."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.batching.budget import DOUBT, GROW_AFTER, GROWTH, Budget, Learned


def grow(budget: Budget, steps: int) -> int:
    """How often it grew in so many full steps."""
    times = 0
    for _ in range(steps):
        budget.spend(budget.now, 1)
        times += budget.passed()
    return times


@pytest.mark.parametrize(
    ("now", "spent", "least", "shrinks", "after"),
    [
        (512, 512, 1, True, 256),
        (512, 100, 1, True, 50),
        (512, 100, 80, True, 80),
        (512, 80, 80, False, 512),
        (math.inf, 30, 10, True, 15),
        (512, 1, 1, False, 512),
    ],
)
def test_half_of_what_did_not_fit(
    now: float, spent: float, least: float, shrinks: bool, after: float
) -> None:
    budget = Budget(now)
    budget.spend(spent, least)

    assert (budget.shrink(), budget.now) == (shrinks, after)


@given(st.floats(1, 1e6), st.floats(0.1, 100))
def test_shrinking_comes_to_an_end(most: float, least: float) -> None:
    budget = Budget(most)
    for _ in range(30):
        budget.spend(max(budget.now, least), least)
        if not budget.shrink():
            return
    pytest.fail("it never ends")


def test_an_engine_that_says_nothing_of_its_steps_shrinks_all_the_same() -> None:
    budget = Budget(64)

    assert budget.shrink() and budget.now == 32
    assert not Budget(math.inf).shrink()


def test_growth_takes_many_good_steps() -> None:
    budget = Budget(1024)
    budget.shrink()

    assert grow(budget, GROW_AFTER - 1) == 0
    assert grow(budget, 1) == 1
    assert budget.now == 512 * GROWTH


def test_steps_that_are_half_empty_prove_nothing() -> None:
    budget = Budget(1024)
    budget.shrink()
    for _ in range(2 * GROW_AFTER):
        budget.spend(100, 1)
        assert not budget.passed()


def test_what_did_not_fit_is_tried_again_only_after_a_long_time() -> None:
    budget = Budget(1024)
    budget.shrink()
    grow(budget, 20 * GROW_AFTER)
    below = budget.now
    assert 512 < below < 1024

    grow(budget, DOUBT * GROW_AFTER)
    assert budget.now == 1024
    assert budget.learned is None


def test_a_full_budget_does_not_grow() -> None:
    assert grow(Budget(64), 3 * GROW_AFTER) == 0


def test_what_was_learned_is_taken_up() -> None:
    budget = Budget(1024)
    budget.shrink()
    budget.shrink()
    assert budget.learned == Learned(now=256, ceiling=512)

    again = Budget(1024)
    again.recall(Learned(now=256, ceiling=512))
    assert again.now == 256
    grow(again, 20 * GROW_AFTER)
    assert again.now < 512


@pytest.mark.parametrize(("learned", "now"), [(Learned(4096), 1024), (Learned(-5), 1)])
def test_what_was_learned_stays_within_bounds(learned: Learned, now: float) -> None:
    budget = Budget(1024)
    budget.recall(learned)

    assert budget.now == now
