import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.reporting.figures import Spread, over, percentile, ratio, spread


@pytest.mark.parametrize(
    ("share", "value"), [(0.01, 1), (0.5, 50), (0.95, 95), (0.99, 99), (1, 100)]
)
def test_percentiles_of_the_first_hundred_numbers(share: float, value: float) -> None:
    assert percentile(range(1, 101), share) == value


def test_percentiles_of_few_values() -> None:
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0
    assert percentile([1.0, 2.0], 0.5) == 1.0
    assert percentile([1.0, 2.0], 0.51) == 2.0
    assert math.isnan(percentile([], 0.5))


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    st.floats(0.001, 1.0),
)
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(
    values: list[float], share: float
) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    enough = share * len(values)

    assert sum(value <= found for value in values) >= enough
    assert sum(value < found for value in values) < enough


def test_a_spread_is_median_smallest_largest() -> None:
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert spread([1.0, 2.0]) == Spread(1.5, 1.0, 2.0)


def test_a_ratio_is_of_medians_and_its_spread_of_rounds() -> None:
    assert ratio([200, 330, 300], [100, 110, 150]) == Spread(300 / 110, 2.0, 3.0)


def test_a_ratio_needs_the_same_rounds() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_nothing_on_the_other_side_is_infinitely_less() -> None:
    assert over(1.0, 0.0) == math.inf
