"""Doorbells and calls: who hears of a job, and when a drain may leave."""

import time
from collections.abc import Callable, Iterator

import pytest

from shared.store.jobs import JobStore
from tests.conftest import eventually
from tests.shared.store.jobs.jobs import MODEL, claim, submit


def test_the_first_job_rings_and_the_next_do_not(store: JobStore) -> None:
    assert [submit(store).ring for _ in range(3)] == [True, False, False]


@pytest.fixture
def roused(store: JobStore) -> Iterator[Callable[[], list[str]]]:
    """Which of the workers w1, w2 and w3 were called since the last look; the others are gone."""
    with store.redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        names = {store.keys("rouse", worker).encode(): worker for worker in ("w1", "w2", "w3")}
        pubsub.subscribe(*names)
        for channel in names:
            eventually(lambda channel=channel: store.redis.pubsub_numsub(channel)[0][1])

        def look() -> list[str]:
            heard: list[str] = []
            pubsub.ping()
            while True:
                message = pubsub.get_message(timeout=5)
                if message is None:
                    continue
                if message["type"] == "pong":
                    return heard
                heard.append(names[message["channel"]])

        yield look


def waits(store: JobStore, worker: str, room: int = 4) -> None:
    """A drain at `worker` looks for jobs."""
    store.claim(MODEL, room, worker, drain=f"{worker}/d")


def test_a_job_calls_the_drain_that_has_waited_longest(
    store: JobStore, roused: Callable[[], list[str]]
) -> None:
    for worker in ("w2", "w1", "w3"):
        waits(store, worker)
        time.sleep(0.002)  # Who waited longer is told by the clock.
    assert not submit(store).ring
    assert roused() == ["w2"]
    for _ in range(3):
        submit(store)
    assert roused() == ["w1", "w3"]
    waits(store, "w1")
    submit(store)
    assert roused() == ["w1"]


def test_a_called_drain_that_leaves_calls_the_next(
    store: JobStore, roused: Callable[[], list[str]]
) -> None:
    for worker in ("w1", "w2"):
        waits(store, worker)
        time.sleep(0.002)
    submit(store)
    assert roused() == ["w1"]
    assert store.sign_off(MODEL, "w1", "w1/d", force=True) == (True, False)
    assert roused() == ["w2"]


def test_who_does_not_hear_is_passed_over(store: JobStore, roused: Callable[[], list[str]]) -> None:
    for worker in ("gone", "w1"):
        waits(store, worker)
        time.sleep(0.002)
    submit(store)
    assert roused() == ["w1"]


def test_a_full_drain_is_called_last_and_calls_one_with_room(
    store: JobStore, roused: Callable[[], list[str]]
) -> None:
    waits(store, "w1", room=0)
    time.sleep(0.002)
    waits(store, "w2")
    waits(store, "w3")
    submit(store)
    submit(store)
    assert sorted(roused()) == ["w2", "w3"]
    submit(store)
    assert roused() == ["w1"]
    claim(store, 8)
    waits(store, "w2")
    waits(store, "w3", room=0)
    submit(store)
    assert roused() == ["w2"]
    waits(store, "w2", room=0)
    assert roused() == [], "who is full as well is of no help"


def test_a_drain_that_can_take_no_more_calls_the_next(
    store: JobStore, roused: Callable[[], list[str]]
) -> None:
    for worker in ("w1", "w2"):
        waits(store, worker)
        time.sleep(0.002)
    submit(store)
    assert roused() == ["w1"]
    waits(store, "w1", room=0)
    assert roused() == ["w2"]


def test_who_has_signed_off_is_not_called(store: JobStore, roused: Callable[[], list[str]]) -> None:
    for worker in ("w1", "w2"):
        waits(store, worker)
        time.sleep(0.002)
    assert store.sign_off(MODEL, "w1", "w1/d") == (True, False)
    submit(store)
    assert roused() == ["w2"]


def test_a_drain_leaves_only_an_empty_queue(store: JobStore) -> None:
    store.claim(MODEL, 1, "w", drain="d")
    submit(store)
    assert store.sign_off(MODEL, "w", "d") == (False, False)
    claim(store)
    assert store.sign_off(MODEL, "w", "d") == (True, False)
    assert submit(store).ring


def test_a_full_drain_rings_for_an_idle_worker(store: JobStore) -> None:
    """However few jobs wait: no drain at work can take them."""
    for worker in ("w1", "w2"):
        store.beat(MODEL, worker, b"{}", [])
    for _ in range(3):
        submit(store)
    assert store.claim(MODEL, 2, "w1", drain="d").ring
    assert not store.claim(MODEL, 0, "w1", drain="d").ring, "one ring is on its way"
    assert not store.claim(MODEL, 1, "w2", drain="e").ring, "nothing is left"
    submit(store)
    assert not store.claim(MODEL, 0, "w1", drain="d").ring, "every worker is at work"


def test_a_drain_that_is_full_when_a_job_comes_rings(store: JobStore) -> None:
    for worker in ("w1", "w2"):
        store.beat(MODEL, worker, b"{}", [])
    assert not store.claim(MODEL, 0, "w1", drain="d").ring, "nobody waits"
    assert not submit(store).ring
    claimed = store.claim(MODEL, 0, "w1", drain="d")
    assert (claimed.claims, claimed.ring) == ([], True)


def test_a_drain_with_room_left_rings_for_nobody(store: JobStore) -> None:
    for worker in ("w1", "w2"):
        store.beat(MODEL, worker, b"{}", [])
    submit(store)
    assert not store.claim(MODEL, 5, "w1", drain="d").ring
