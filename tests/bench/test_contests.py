"""What is compared is complete: every goal can be judged, every subject can be started."""

import pytest

from bench.contests import CONTESTS, Contest, slug
from bench.environments import REQUIREMENTS
from bench.reporting.goals import DURABLE, FIGURES
from bench.subjects.ours import Ours

contests = pytest.mark.parametrize("contest", CONTESTS, ids=lambda contest: contest.name)


@contests
def test_a_quick_run_too_has_the_peers_of_all_goals(contest: Contest) -> None:
    subjects = contest.subjects(quick=True)
    names = {subject.name for subject in subjects[1:]}

    assert isinstance(subjects[0], Ours)
    assert {goal.peer for goal in contest.goals} <= names | {None, DURABLE}
    assert {goal.figure for goal in contest.goals} | {contest.figure} <= FIGURES.keys()


@contests
def test_subjects_are_told_apart_and_have_their_environments(contest: Contest) -> None:
    subjects = contest.subjects(quick=False)

    assert len({(s.name, s.variant) for s in subjects}) == len(subjects)
    assert all(s.environment is None or pins_of(s.environment) for s in subjects)
    assert all(s.settings and s.dialect.path.startswith("/") for s in subjects)


def test_peers_are_chosen_by_the_last_part_of_their_names() -> None:
    infer = CONTESTS[0]
    subjects = infer.subjects(quick=True, peers=["dramatiq", "litserve"])

    assert [subject.name for subject in subjects[1:]] == ["Flask + dramatiq", "LitServe"]
    assert {slug(s.name) for s in infer.subjects(quick=True)[1:]} == {
        "celery", "celery-batches", "dramatiq", "taskiq", "litserve", "ray-serve", "bentoml",
    }  # fmt: skip


def pins_of(environment: str) -> bool:
    return (REQUIREMENTS / f"{environment}.txt").exists()
