"""A step's seconds, split over its jobs: nothing is lost and nothing is invented."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.base import Finished, Piece, Step
from workers.host.meter import Meter

JOBS = ("a", "b", "c", "d")
members = st.sets(st.sampled_from(JOBS))
steps = st.builds(
    Step,
    pieces=members.map(lambda ids: [Piece(i, "x") for i in sorted(ids)]),
    outcomes=members.map(lambda ids: [Finished(i, None) for i in sorted(ids)]),
    shares=st.dictionaries(st.sampled_from((*JOBS, "stranger")), st.floats(0.0, 1e6)),
)


@given(st.lists(st.tuples(steps, st.floats(0, 100), members, members), max_size=20))
def test_what_jobs_used_is_what_the_engine_was_busy(
    history: list[tuple[Step, float, set[str], set[str]]],
) -> None:
    meter = Meter()
    taken = 0.0
    spent = 0.0
    for step, seconds, present, ends in history:
        meter.charge(step, seconds, present)
        spent += seconds if present else 0.0
        taken += sum(meter.take(job) for job in ends)
    taken += sum(meter.take(job) for job in (*JOBS, "stranger"))

    assert taken == pytest.approx(meter.busy)
    assert meter.busy == pytest.approx(spent), "all time in which somebody was there"
    assert meter.take("stranger") == 0


def test_shares_count_before_voices_and_voices_before_presence() -> None:
    meter = Meter()
    meter.charge(Step([Piece("a", "x")], shares={"a": 1, "b": 3}), 4.0, {"a", "b", "c"})
    assert (meter.take("a"), meter.take("b"), meter.take("c")) == (1.0, 3.0, 0.0)
    meter.charge(Step([Piece("a", "x")], [Finished("b", None)]), 4.0, {"a", "b", "c"})
    assert (meter.take("a"), meter.take("b"), meter.take("c")) == (2.0, 2.0, 0.0)
    meter.charge(Step(), 3.0, {"a", "b", "c"})
    assert (meter.take("a"), meter.take("b"), meter.take("c")) == (1.0, 1.0, 1.0)
