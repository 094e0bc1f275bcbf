"""The table of transitions, and that the scripts get exactly this table."""

import itertools
import re

from shared.states import TERMINAL, TRANSITIONS, JobState, lua_table, may_move


def test_nothing_leaves_a_terminal_state() -> None:
    for origin, target in itertools.product(TERMINAL, JobState):
        assert not may_move(origin, target)


def test_a_retry_is_running_to_queued_and_every_job_can_end() -> None:
    assert may_move(JobState.RUNNING, JobState.QUEUED)
    for target in TERMINAL:
        assert may_move(JobState.RUNNING, target)
    assert not may_move(JobState.QUEUED, JobState.FAILED)


def test_the_lua_table_says_the_same() -> None:
    rows = re.findall(r"(\w+)=\{([^}]*)\}", lua_table())
    read = {
        origin: {part.removesuffix("=true") for part in targets.split(",") if part}
        for origin, targets in rows
    }
    assert read == {str(o): {str(t) for t in targets} for o, targets in TRANSITIONS.items()}
