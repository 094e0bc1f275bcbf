import pytest

from shared.domain.errors import InvalidRequest, StoreUnavailable
from workers.execution.transient import TRIES, transient


class Flaky:
    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.faults:
            raise self.faults.pop(0)
        return "here"


def test_a_store_that_is_away_for_a_moment_is_asked_again() -> None:
    flaky = Flaky(StoreUnavailable("away"), StoreUnavailable("away"))
    assert transient()(flaky) == "here"
    assert flaky.calls == TRIES


def test_not_more_often_than_that() -> None:
    flaky = Flaky(*[StoreUnavailable("away")] * 9)
    with pytest.raises(StoreUnavailable):
        transient()(flaky)
    assert flaky.calls == TRIES


def test_other_faults_are_told_at_once() -> None:
    flaky = Flaky(InvalidRequest("no"))
    with pytest.raises(InvalidRequest):
        transient()(flaky)
    assert flaky.calls == 1
