"""A search finds the jobs that make a step fail, all of them and no others, in few trials."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.workers.host.fragile import LETTERS, Fragile, batch, serve
from workers.engines.base import Step
from workers.host.search import PATIENCE, SICK_AFTER, Search


def test_a_job_that_no_step_reaches_does_not_hold_up_the_search() -> None:
    search = Search(["a", "b"])
    for _ in range(PATIENCE):
        assert search.trial == ["a"]
        search.ran((), (), healthy=False)
    assert search.trial == ["b"]


@settings(deadline=None, max_examples=examples(150))
@given(
    st.integers(2, 24).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=n - 1))
    ),
    st.integers(1, 24),
    st.integers(0, 3),
)
def test_exactly_the_poisoned_are_blamed(case: tuple[int, set[int]], width: int, at: int) -> None:
    size, poisoned = case
    ran = serve(Fragile(width=width), batch(size, poisoned, at=at, length=at))

    assert set(ran.codes()) == {str(n) for n in poisoned}
    assert len(ran.finished()) == size - len(poisoned)
    for job in ran.finished():
        assert ran.texts.get(job, "") == LETTERS[:at]
    if len(poisoned) < SICK_AFTER and at == 0 and width >= size:
        assert set(ran.codes().values()) <= {"poison_input"}


@settings(deadline=None, max_examples=examples(200))
@given(
    st.integers(2, 64).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))
    )
)
def test_a_search_finds_every_culprit_in_few_trials(case: tuple[int, set[int]]) -> None:
    size, culprits = case
    jobs = [str(n) for n in range(size)]
    bad = {str(n) for n in culprits}
    search, well, trials = Search(jobs), set[str](), 0
    while not search.over:
        trials += 1
        trial = list(search.trial)
        if bad & set(trial):
            search.failed()
        else:
            assert not well & set(trial)
            well |= set(trial)
            search.ran(trial, trial, healthy=True)

    assert {*search.poison, *search.unlucky} == bad
    assert well == set(jobs) - bad
    assert trials <= 3 * size
    # Down to one of n: each trial takes a quarter, or leaves three.
    assert trials <= len(bad) * (math.log(size, 4 / 3) + 2) + 1


@settings(deadline=None, max_examples=examples(60))
@given(st.integers(2, 40), st.data())
def test_jobs_that_fail_only_together_are_not_to_blame(size: int, data: st.DataObject) -> None:
    one, other = data.draw(
        st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True), label="pair"
    )

    class Couple(Fragile):
        def step(self) -> Step:
            if {str(one), str(other)} <= self.works.keys():
                raise RuntimeError("these two together")
            return super().step()

    ran = serve(Couple(), batch(size, set()))

    assert ran.finished() == {str(n) for n in range(size)}


def test_a_search_among_one_is_over_at_once() -> None:
    assert Search(["a"]).unlucky == ["a"]
