"""Lanes: who waits for a model, in the order in which they are served."""

from typing import Literal

import pytest

from shared.domain.records import Finish, NewJob, new_job_id
from shared.domain.states import JobState
from shared.store import lanes
from shared.store.jobs import JobStore
from shared.store.lanes import Lane, read_lanes, read_running

Priority = Literal["high", "normal", "low"]


def submit(store: JobStore, tenant: str, priority: Priority = "normal", cost: int = 10) -> None:
    job = NewJob(new_job_id(), "m", tenant, b"{}", priority=priority, cost=cost)
    store.create(job, max_queued=100)


def test_lanes_are_told_by_priority_and_turn_with_their_share(store: JobStore) -> None:
    submit(store, "a", "normal", 30)
    submit(store, "a", "normal", 30)
    submit(store, "b", "low", 20)
    submit(store, "b", "high", 20)

    found = read_lanes(store, "m")

    assert found.told == [
        Lane("high", "b", 1, 20),
        Lane("normal", "a", 2, 60),
        Lane("low", "b", 1, 20),
    ]
    assert [found.share(lane) for lane in found.told] == [0.2, 0.6, 0.2] and found.more == 0
    assert [lane.priority for lane in read_lanes(store, "m", "b").told] == ["high", "low"]
    assert read_lanes(store, "m", "c") == read_lanes(store, "absent") == ([], 0)


def test_who_was_served_stands_behind_who_was_not(store: JobStore) -> None:
    for _ in range(2):
        submit(store, "a")
    submit(store, "b")
    (served,) = store.claim("m", 1, "w").claims

    other = {"a": "b", "b": "a"}[served.tenant]
    assert read_lanes(store, "m").told[0].tenant == other


def test_of_very_many_the_next_ones_are_told(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "MOST", 2)
    for n in range(5):
        submit(store, f"t{n}")

    found = read_lanes(store, "m")
    assert len(found.told) == 2 and found.more == 3


def test_running_jobs_are_told_by_tenant(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for tenant in ("a", "b", "a", "a"):
        submit(store, tenant)
    assert read_running(store, "m") == ([], 0, 0)
    claims = store.claim("m", 4, "w").claims

    found = read_running(store, "m")
    assert found == ([("a", 3), ("b", 1)], 4, 0) and found.share(3) == 0.75
    assert read_running(store, "m", "b") == ([("b", 1)], 4, 0)
    assert read_running(store, "m", "c") == ([], 4, 0)

    of_b = next(claim for claim in claims if claim.tenant == "b")
    store.write([Finish(of_b.id, of_b.attempt, JobState.SUCCEEDED)])
    assert read_running(store, "m").told == [("a", 3)]
    monkeypatch.setattr(lanes, "MOST_RUNNING", 2)
    assert read_running(store, "m") == ([("a", 2)], 2, 1)
