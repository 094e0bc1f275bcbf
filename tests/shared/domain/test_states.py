"""The table of transitions, and that the scripts get exactly these."""

import itertools

from shared.domain.states import TERMINAL, JobState, lua_moves, may_move


def test_nothing_leaves_a_terminal_state() -> None:
    for origin, target in itertools.product(TERMINAL, JobState):
        assert not may_move(origin, target)


def test_a_retry_is_running_to_queued_and_every_job_can_end() -> None:
    assert may_move(JobState.RUNNING, JobState.QUEUED)
    for target in TERMINAL:
        assert may_move(JobState.RUNNING, target)
    assert not may_move(JobState.QUEUED, JobState.FAILED)


def test_the_scripts_are_told_the_same() -> None:
    told = lua_moves()
    for origin, target in itertools.product(JobState, JobState):
        assert (f" {origin}>{target} " in told) == may_move(origin, target)
