"""Recovery is reckoned as docs/reliability.md says."""

import math

from tests.chaos.history import Fault, Final, History
from tests.chaos.recovery import quantile, recoveries


def history(*faults: Fault, **ends: float) -> History:
    found = History()
    for job, end in ends.items():
        found.add(Final(end, job, "succeeded", finished=end))
    for fault in faults:
        found.add(fault)
    return found


def test_a_fault_with_victims_is_over_when_the_last_of_them_has_ended() -> None:
    fault = Fault(10.0, "kill", victims=["a", "b"])
    assert recoveries(history(fault, a=12.0, b=15.0, c=10.5)) == [5.0]


def test_a_victim_that_never_ends_makes_it_infinite() -> None:
    assert recoveries(history(Fault(10.0, "kill", victims=["a", "x"]), a=12.0)) == [math.inf]


def test_a_fault_without_victims_is_over_at_the_next_end() -> None:
    assert recoveries(history(Fault(10.0, "cut"), a=9.0, b=13.0, c=14.0)) == [3.0]


def test_what_a_scenario_measured_stands() -> None:
    assert recoveries(history(Fault(10.0, "restart", recovered=0.5), a=13.0)) == [0.5]


def test_quantiles_are_values_that_occurred() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)) == (50, 99, 100)
    assert quantile([7.0], 0.5) == 7.0 and math.isnan(quantile([], 0.5))
