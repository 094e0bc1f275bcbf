"""A block ends in time, others are left alone, and the same bound is good for the next one."""

import gevent
import pytest

from api.server.deadline import Deadline


def test_a_block_that_lasts_too_long_is_ended() -> None:
    went_on = False

    with Deadline(0.01):
        gevent.sleep(30)
        went_on = True

    assert not went_on


def test_one_is_good_for_many_blocks() -> None:
    deadline = Deadline(0.05)
    ended = []

    for seconds in (0.0, 30.0, 0.0, 30.0):
        with deadline:
            gevent.sleep(seconds)
            ended.append(seconds)

    assert ended == [0.0, 0.0]


def test_what_comes_after_a_block_is_left_alone() -> None:
    with Deadline(0.01):
        pass

    gevent.sleep(0.05)


def test_what_else_ends_a_block_is_not_hidden() -> None:
    with pytest.raises(KeyError), Deadline(30):
        raise KeyError


def test_nobody_in_between_takes_it_for_a_fault() -> None:
    caught = False

    with Deadline(0.01):
        try:
            gevent.sleep(30)
        except Exception:  # noqa: BLE001 - which it is not
            caught = True

    assert not caught


def test_those_of_other_greenlets_run_beside_it() -> None:
    def bounded(seconds: float) -> bool:
        with Deadline(seconds):
            gevent.sleep(0.1)
            return True
        return False

    greenlets = [gevent.spawn(bounded, seconds) for seconds in (0.01, 30.0)]

    assert [greenlet.get() for greenlet in greenlets] == [False, True]
