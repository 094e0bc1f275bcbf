"""The most telling scenarios, small: what every run of the tests can afford.

`make chaos-quick` has more of them, larger; `make chaos-long` has all, at a quarter of their full size. What
scenario 9 has many of, readers that are cut at random, is part of the load of each of these.
"""

from pathlib import Path

import pytest

from tests.chaos.arena import Size
from tests.chaos.campaign import CASES, run
from tests.chaos.row import table
from tests.conftest import redis_binary, require

SIZES = {
    1: Size(40, 2),
    3: Size(40, 1),
    18: Size(4, 1),
}


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", SIZES)
def test_nothing_accepted_is_lost(number: int, tmp_path: Path) -> None:
    require(redis_binary(), "redis-server")
    [case] = [case for case in CASES if case.number == number]
    [row] = run([(case, SIZES[number])], seed=1, folder=tmp_path)
    assert row.verdict == "pass", table([row])
    assert row.n >= SIZES[number].n and (row.lost, row.duplicated, row.other) == (0, 0, 0)
    assert row.faults >= SIZES[number].faults
