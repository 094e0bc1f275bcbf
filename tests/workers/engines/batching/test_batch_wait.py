"""Waiting for company: only while it pays, never for company that is not coming."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.batching.batch_wait import Arrivals, StepCost, pays_until, wait

MS = 0.001


def cost(overhead: float, per_item: float) -> StepCost:
    found = StepCost()
    for size in (1, 8, 3, 20, 5):
        found.ran(size, overhead + per_item * size)
    return found


def arrivals(gap: float, count: int = 50) -> Arrivals:
    """The last of them came at 0."""
    found = Arrivals()
    for n in range(count, -1, -1):
        found.came(-n * gap)
    return found


@given(st.floats(0, 1), st.floats(1e-4, 0.1))
def test_the_cost_of_a_batch_is_learned(overhead: float, per_item: float) -> None:
    found = cost(overhead, per_item)

    assert found.seconds(10) == pytest.approx(overhead + 10 * per_item, rel=0.05, abs=1e-6)


def test_before_anything_ran_nothing_is_known() -> None:
    assert (StepCost().overhead, StepCost().per_item) == (0, 0)
    assert Arrivals().gap() == Arrivals().since(5) == math.inf


def test_one_size_alone_shows_no_overhead() -> None:
    found = StepCost()
    for _ in range(5):
        found.ran(4, 0.2)

    assert (found.overhead, found.per_item) == pytest.approx((0, 0.05))


def test_an_idle_time_is_part_of_the_gap() -> None:
    busy = arrivals(1 * MS)
    assert busy.gap() == pytest.approx(1 * MS)
    busy.came(60.0)
    assert busy.gap() > 5


@pytest.mark.parametrize(
    ("waiting", "most", "gap", "overhead", "per_item", "waited", "since", "expected"),
    [
        # a batch costs 50 ms whatever its size, jobs come every ms: wait, up to the limit
        (1, 32, 1 * MS, 50 * MS, 0, 0, 0, 20 * MS),
        (1, 32, 1 * MS, 50 * MS, 0, 15 * MS, 0, 5 * MS),
        (1, 32, 1 * MS, 50 * MS, 0, 20 * MS, 0, 0),
        # the next one is late by now: no longer than it could still pay
        (1, 32, 1 * MS, 30 * MS, 0, 0, 10 * MS, 5 * MS),
        (1, 32, 1 * MS, 30 * MS, 0, 0, 16 * MS, 0),
        # a batch costs what its jobs cost: never
        (1, 32, 1 * MS, 0, 10 * MS, 0, 0, 0),
        (1, 32, 1 * MS, 5 * MS, 5 * MS, 0, 0, 0),
        # the next one is not expected in time
        (1, 32, 30 * MS, 50 * MS, 0, 0, 0, 0),
        # those who stand here already lose more than the newcomer would gain
        (31, 32, 2 * MS, 50 * MS, 0, 0, 0, 0),
        (8, 32, 1 * MS, 50 * MS, 6 * MS, 0, 0, 0),
        # a full batch, or none
        (32, 32, 0, 50 * MS, 0, 0, 0, 0),
        (0, 32, 0, 50 * MS, 0, 0, 0, 0),
    ],
)
def test_waiting(
    waiting: int,
    most: int,
    gap: float,
    overhead: float,
    per_item: float,
    waited: float,
    since: float,
    expected: float,
) -> None:
    found = wait(
        waiting,
        most,
        cost(overhead, per_item),
        arrivals(gap),
        waited=waited,
        limit=20 * MS,
        now=since,
    )

    assert found == pytest.approx(expected, abs=1e-6)


def test_a_lone_job_never_waits() -> None:
    lone = Arrivals()
    lone.came(0.0)
    options = {"waited": 0.0, "limit": 1.0, "now": 0.0}

    assert wait(1, 32, cost(0.5, 0), lone, **options) == 0.0
    assert wait(1, 32, StepCost(), arrivals(1 * MS), **options) == 0.0


@given(
    st.integers(1, 40), st.floats(0, 0.2), st.floats(0, 0.05), st.floats(0, 0.1), st.floats(0, 0.1)
)
def test_waiting_up_to_the_bound_lowers_the_sum_of_completion_times(
    n: int, a: float, b: float, g: float, slack: float
) -> None:
    apart = n * (a + b * n) + (max(g, a + b * n) - g + a + b)
    together = n * (g + a + b * (n + 1)) + (a + b * (n + 1))
    bound = (a - b * n) / (n + 1)

    if g <= min(bound, a + b * n) - 1e-9:
        assert together <= apart + 1e-9
    known = cost(a, b)
    assert pays_until(n, known) == pytest.approx(bound, rel=0.01, abs=1e-4 * (n + 1))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 5))
def test_the_limit_is_never_exceeded(gap: float, a: float, limit: float, waited: float) -> None:
    found = wait(2, 8, cost(a, 0), arrivals(gap), waited=waited, limit=limit, now=0.0)

    assert 0 <= found <= max(0.0, limit - waited) + 1e-12
