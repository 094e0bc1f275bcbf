"""What is read of jobs: lists, positions, texts, first events, and how long all of it is kept."""

import json

import pytest

from shared.domain.errors import InvalidRequest, JobNotFound, JobNotTerminal
from shared.domain.events import Prefix
from shared.domain.records import Append, Finish
from shared.domain.states import JobState
from shared.store.events import START, EventLog
from shared.store.jobs import JobStore
from tests.conftest import eventually
from tests.shared.store.jobs.jobs import MODEL, claim, short_leases, submit


def test_the_first_event_is_the_same_before_and_after_others(store: JobStore) -> None:
    job_id, log = submit(store).id, EventLog(store.redis, store.keys)
    told = log.read(job_id)
    assert [str(event.id) for event in told] == ["0-1"] and log.exists(job_id)
    assert log.read(job_id, told[0].id) == []
    assert store.redis.exists(store.keys("log", job_id)) == 0, "a stream of one entry takes 4.7 KB"

    claim(store)
    now = log.read(job_id)
    assert now[0].frame == told[0].frame and len(now) == 2
    lives = [store.redis.ttl(store.keys(kind, job_id)) for kind in ("job", "request", "log")]
    assert max(lives) - min(lives) <= 1, lives


def test_a_log_read_in_pages_has_the_first_event_once(store: JobStore) -> None:
    job_id, log = submit(store).id, EventLog(store.redis, store.keys)
    claim(store)
    store.write([Append(job_id, 1, seq, "token", b"{}") for seq in range(1, 6)])
    seen, cursor = [], START
    while page := log.read(job_id, cursor, count=2):
        seen += [str(event.id) for event in page]
        cursor = page[-1].id
    assert seen == ["0-1", "1-0", "1-1", "1-2", "1-3", "1-4", "1-5"]


def test_the_keys_that_jobs_share_outlive_a_queue_that_never_empties(store: JobStore) -> None:
    submit(store)
    shared = [store.keys("queue", MODEL), store.keys("deadlines", MODEL), store.keys("models")]

    def shortest() -> int:
        return min(store.redis.ttl(key) for key in shared)

    longest = shortest()
    for key in shared:
        store.redis.expire(key, longest // 4)
    submit(store)
    assert shortest() == longest // 4, "they were renewed a moment ago"
    store.redis.hincrby(store.keys("queue", MODEL), "renewed", -3_600_001)
    submit(store)
    assert shortest() >= longest - 1


def test_the_events_of_a_job_are_gone_with_its_log_or_record(store: JobStore) -> None:
    waits, ran, log = submit(store).id, submit(store).id, EventLog(store.redis, store.keys)
    store.cancel(ran)
    store.redis.delete(store.keys("job", waits), store.keys("log", ran))
    assert not log.exists(waits) and not log.exists(ran)
    assert log.read(waits) == log.read(ran) == []


@pytest.mark.parametrize("dead", [False, True], ids=["at fault", "dead letter"])
@pytest.mark.parametrize("state", ["succeeded", "failed", "canceled", "expired"])
def test_the_request_of_a_job_is_kept_only_where_it_was_not_at_fault(
    store: JobStore, state: str, dead: bool
) -> None:
    job_id = submit(store).id
    [held] = claim(store)
    assert held.request == b'{"content":"x"}'
    dead = dead and state == "failed"
    store.write([Finish(job_id, 1, JobState(state), dead=dead)])
    assert bool(store.redis.exists(store.keys("request", job_id))) is dead


def test_positions_count_what_goes_before(store: JobStore) -> None:
    ids = [submit(store).id for _ in range(3)]
    high = submit(store, priority="high").id
    assert [store.get(i).position for i in [high, *ids]] == [0, 1, 2, 3]


def test_another_tenants_job_does_not_exist(store: JobStore) -> None:
    job_id = submit(store, "mine").id
    for call in (store.get, store.cancel, store.delete):
        with pytest.raises(JobNotFound):
            call(job_id, "yours")
    with pytest.raises(JobNotFound):
        store.get("job_'; drop", "mine")


def test_delete_forgets_terminal_jobs_only(store: JobStore) -> None:
    job_id = submit(store).id
    with pytest.raises(JobNotTerminal):
        store.delete(job_id, "t")
    store.cancel(job_id)
    store.delete(job_id, "t")
    with pytest.raises(JobNotFound):
        store.get(job_id)
    assert store.listing("t") == ([], None)


def test_listing_pages_newest_first(store: JobStore) -> None:
    ids = [submit(store).id for _ in range(5)]
    store.cancel(ids[2])
    submit(store, "other")
    page, cursor = store.listing("t", limit=2)
    rest, end = store.listing("t", limit=10, cursor=cursor)
    assert [r.id for r in page + rest] == sorted(ids, reverse=True)
    assert end is None
    assert [r.id for r in store.listing("t", state=JobState.CANCELED)[0]] == [ids[2]]
    assert store.listing("t", model="nope") == ([], None)
    with pytest.raises(InvalidRequest):
        store.listing("t", cursor="nonsense")


def test_streamed_text_is_read_back_since_the_last_reset(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    store.write(
        [
            Append(job_id, 1, 1, "token", json.dumps({"text": "old", "index": 0}).encode(), "1"),
            Append(job_id, 1, 2, "reset", b'{"attempt":1}'),
            Append(job_id, 1, 3, "token", json.dumps({"text": "né", "index": 0}).encode(), "2,3"),
            Append(job_id, 1, 4, "token", json.dumps({"text": "w", "index": 2}).encode(), "4"),
        ]
    )
    assert store.streamed(job_id) == ("néw", (2, 3, 4), False, (), "")


def test_texts_of_one_job_are_read_back_apart(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    said = [("a", 0, "1"), ("x", 2, "7"), ("b", 0, "2,3"), ("y", 2, "8")]
    store.write(
        [
            Append(
                job_id,
                1,
                seq,
                "token",
                json.dumps({"text": text, "index": 0} | ({"choice": n} if n else {})).encode(),
                tokens,
            )
            for seq, (text, n, tokens) in enumerate(said, 1)
        ]
    )
    further = (Prefix(), Prefix("xy", (7, 8)))
    assert store.streamed(job_id) == ("ab", (1, 2, 3), False, further, "")


def test_status_counts_live_workers_only(store: JobStore) -> None:
    store.beat(MODEL, "live", b'{"state":"ready"}', [])
    short_leases(store).beat(MODEL, "dead", b"{}", [])
    eventually(lambda: list(store.status(MODEL).workers) == ["live"])
    store.beat(MODEL, "live", b"", [])
    assert store.status(MODEL).workers == {}


def test_after_retention_nothing_of_a_job_is_left(store: JobStore) -> None:
    brief = JobStore(store.redis, store.keys.prefix, retention=1, lease=5.0)
    job_id = submit(brief).id
    brief.cancel(job_id)
    keys = [brief.keys(kind, job_id) for kind in ("job", "request", "log")]
    eventually(lambda: store.redis.exists(*keys) == 0)
    assert store.listing("t") == ([], None)
