"""The history: the last hour, of which minutes that are over are read once."""

import pytest
from redis.exceptions import ConnectionError as Away

from api.state.history import History
from shared.domain.errors import StoreUnavailable
from shared.domain.records import Finish, NewJob, new_job_id
from shared.domain.states import JobState
from shared.store import stats
from shared.store.jobs import JobStore


def test_the_present_minute_and_the_hour_before_it(store: JobStore) -> None:
    job_id = new_job_id()
    store.create(NewJob(job_id, "m", "t", b"{}"), max_queued=10)
    store.claim("m", 1, "w")
    store.write([Finish(job_id, 1, JobState.SUCCEEDED, usage=b'{"completion_tokens":7}')])
    present = store.redis.time()[0] // 60  # type: ignore[index]
    for model, failed in (("m", 2), ("other", 1)):
        long_ago = store.keys("stats", model, str(present - 30))
        store.redis.hset(long_ago, mapping={"n:failed": failed, "n:succeeded": 1})
        store.redis.expire(long_ago, 60)

    rows = History(store, ["m", "other"]).read()

    assert [row.minute for row in rows] == list(range(rows[-1].minute - 60, rows[-1].minute + 1))
    latest = rows[-1] if rows[-1].ended else rows[-2]
    assert (latest.ended, latest.failed, latest.tokens) == (1, 0, 7)
    assert latest.latency.p95 is not None
    (before,) = (row for row in rows if row.minute == present - 30)
    assert (before.ended, before.failed, before.latency.p50) == (5, 3, None)


def test_minutes_that_are_over_are_read_once(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def counted(*args: object) -> list[stats.MinuteStats]:
        read.append(len(args[3]))  # type: ignore[arg-type]
        return stats.read_minutes(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("api.state.history.read_minutes", counted)
    history = History(store, ["m"])
    first, second = history.read(), history.read()

    assert read[0] == 61 and read[1] <= 3
    assert first[:58] == second[:58] or first[1:58] == second[:57]


def test_a_redis_that_is_away_is_said(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise Away

    monkeypatch.setattr("api.state.history.read_minutes", away)
    with pytest.raises(StoreUnavailable):
        History(store, ["m"]).read()


def test_the_store_keeps_what_a_history_asks_for(store: JobStore) -> None:
    job_id = new_job_id()
    store.create(NewJob(job_id, "m", "t", b"{}"), max_queued=10)
    store.cancel(job_id)

    (name,) = store.redis.scan_iter(store.keys("stats", "m", "*"))

    assert store.redis.ttl(name) > 60 * stats.HISTORY_MINUTES
