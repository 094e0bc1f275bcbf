"""The smallest form of what the campaign found and what was mended then; one worker, no Celery."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from shared.domain.errors import StoreUnavailable
from shared.domain.records import NewJob, Requeue, new_job_id
from shared.domain.states import JobState
from shared.redis.connection import connect
from shared.store.events import EventHub, follow_all
from shared.store.jobs import JobStore
from shared.store.keys import Keys
from tests.conftest import RedisServer, eventually
from tests.workers.bench import Bench


@pytest.fixture
def make_bench(store: JobStore) -> Iterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make() -> Bench:
        benches.append(Bench(store))
        return benches[-1]

    yield make
    for bench in benches:
        bench.stop()


@pytest.fixture
def own_store(own_redis: RedisServer) -> Iterator[JobStore]:
    """On a Redis whose memory a test may fill."""
    redis = connect(own_redis.url, 5.0)
    yield JobStore(redis, "own", retention=60, lease=1.0)
    redis.close()


def full(store: JobStore) -> None:
    store.redis.config_set("maxmemory", 1)


def freed(store: JobStore) -> None:
    store.redis.config_set("maxmemory", 0)


def test_a_full_redis_is_unavailable_to_every_call(own_store: JobStore) -> None:
    """redis-py takes the word OOM off its OutOfMemoryError; the API answered 500 instead of 503."""
    full(own_store)
    with pytest.raises(StoreUnavailable):
        own_store.create(NewJob(new_job_id(), "m", "t", b"{}"), max_queued=10)


def test_a_worker_outlives_a_full_redis(own_store: JobStore) -> None:
    """The fault ended the scribe's thread; the worker claimed on, wrote nothing, and its jobs failed."""
    bench = Bench(own_store)
    try:
        running = bench.submit("slow 400")
        eventually(lambda: own_store.streamed(running)[0])
        refused = own_store.redis.info("stats")["total_error_replies"]
        full(own_store)
        eventually(lambda: own_store.redis.info("stats")["total_error_replies"] > refused)
        freed(own_store)
        assert bench.ended(running, 15).status is JobState.SUCCEEDED
    finally:
        bench.stop()


def test_a_poison_job_takes_nobody_with_it(make_bench: Callable[..., Bench]) -> None:
    """The jobs of a dead host came back together, met the poison again, and failed with it."""
    bench = make_bench()
    good = [bench.submit(f"slow {20 + number}") for number in range(6)]
    eventually(lambda: all(bench.store.get(job).state is JobState.RUNNING for job in good))
    poison = bench.submit("segfault")
    assert bench.ended(poison, 60).status is JobState.FAILED
    assert {bench.ended(job, 60).status for job in good} == {JobState.SUCCEEDED}


def test_a_fenced_end_is_told_as_fenced(make_bench: Callable[..., Bench]) -> None:
    """Observers were told of an attempt's end before Redis had taken it."""
    bench = make_bench()
    job = bench.submit("slow 60")
    eventually(lambda: bench.store.streamed(job)[0])
    redis = bench.store.redis
    original = bench.store.commit

    def stolen_before_the_end(writes, *policy):  # type: ignore[no-untyped-def]
        if any(type(write).__name__ == "Finish" for write in writes):
            redis.hset(bench.store.keys("job", job), "attempt", "2")
        return original(writes, *policy)

    bench.store.commit = stolen_before_the_end  # type: ignore[method-assign]
    eventually(lambda: bench.diary.ends, what="the attempt is told to have ended")
    eventually(lambda: not bench.runtime.executor.active)
    assert [state for _, state in bench.diary.ends] == ["fenced"]


@pytest.mark.parametrize("remembered", [1000, 1], ids=["remembered", "beyond memory"])
@pytest.mark.parametrize("last", [False, True], ids=["between events", "before the end"])
def test_what_redis_forgot_of_a_log_is_said_again(
    make_bench: Callable[..., Bench],
    monkeypatch: pytest.MonkeyPatch,
    last: bool,
    remembered: int,
) -> None:
    """Redis, killed during a disk sync or replaced by its replica, knows less than it had answered."""
    monkeypatch.setattr("workers.execution.attempt.REMEMBERED", remembered)
    bench = make_bench()
    job = bench.submit("slow 60")
    redis: Any = bench.store.redis
    original = bench.store.commit
    kept: dict[str, bytes] = {}
    told = 0

    def kept_then_forgotten(writes, *policy):  # type: ignore[no-untyped-def]
        nonlocal told
        if told == 2 and not kept:
            kept.update((name, redis.dump(name)) for name in names)
        ends = any(type(write).__name__ == "Finish" for write in writes)
        if kept and told >= 4 and (ends or not last):
            told = -1000
            for name, content in kept.items():
                redis.restore(name, redis.pttl(name), content, replace=True)
        told += 1
        return original(writes, *policy)

    names = [bench.store.keys(kind, job) for kind in ("job", "log")]
    bench.store.commit = kept_then_forgotten  # type: ignore[method-assign]
    hub = EventHub(redis, bench.store.keys)
    hub.start()
    with hub.follow(job) as follower:
        seen = list(follow_all(follower, 15))
    hub.stop()
    ended = bench.ended(job)
    assert told < 0, "it was forgotten"
    if remembered > 1:
        assert [event.id for event in hub.log.read(job)] == [event.id for event in seen]
    assert ended.status is JobState.SUCCEEDED
    assert ended.attempt == (1 if remembered > 1 else 2)
    assert bench.store.get(job).fields["crashes"] == "0"
    assert bench.store.streamed(job)[0] == ended.output["text"]


def test_a_job_that_only_waited_in_a_dead_workers_quarantine_is_not_charged(
    make_bench: Callable[..., Bench],
) -> None:
    bench = make_bench()
    store, redis = bench.store, bench.store.redis
    jobs = [new_job_id() for _ in range(2)]
    for job in jobs:
        request = b'{"content":"slow 2000","params":{},"seed":1}'
        store.create(NewJob(job, "m", "t", request), max_queued=10)
        redis.hset(store.keys("job", job), "crashes", 2)
    bench.ring()
    eventually(lambda: store.streamed(jobs[0])[0], what="the first one runs")
    eventually(lambda: store.get(jobs[1]).state is JobState.RUNNING)
    assert not store.streamed(jobs[1])[0], "the second one waits for the first to end"
    # As if the worker had died: nobody renews its leases.
    redis.zadd(store.keys("leases", "m"), dict.fromkeys(jobs, 1))
    eventually(lambda: store.get(jobs[0]).terminal)
    assert store.get(jobs[1]).state is not JobState.FAILED


def test_the_event_channel_may_be_lost_more_often_than_the_pool_has_connections(
    own_redis: RedisServer,
) -> None:
    redis: Any = Redis.from_url(own_redis.url, max_connections=6)
    admin: Any = Redis.from_url(own_redis.url)
    keys = Keys("own")
    name = keys("events", "job")
    hub = EventHub(redis, keys)
    hub.start()
    try:
        with hub.follow("job"):
            for losses in range(10):
                what = f"listens again after {losses} losses"
                eventually(lambda: dict(admin.pubsub_numsub(name))[name.encode()] == 1, what=what)
                assert admin.client_kill_filter(_type="pubsub") == 1
    finally:
        hub.stop()
        redis.close()
        admin.close()


def test_a_sentinel_url_gets_as_many_connections_as_any_other() -> None:
    plain = connect("redis://127.0.0.1:1/0", 1.0).connection_pool.max_connections
    sentinel = connect("sentinel://127.0.0.1:1/jobs/0", 1.0).connection_pool.max_connections
    assert sentinel >= plain


def test_a_job_given_back_after_its_deadline_ends_at_the_next_look(store: JobStore) -> None:
    """The rescuer had put its deadline off while it ran, and let it wait the rest of that time."""
    job = new_job_id()
    store.create(NewJob(job, "m", "t", b"{}"), max_queued=10)
    [claim] = store.claim("m", 1, "a").claims
    store.redis.hset(store.keys("job", job), "deadline", 1)
    store.redis.zadd(store.keys("deadlines", "m"), {job: 1})
    store.rescue("m")
    assert store.get(job).state is JobState.RUNNING
    store.write([Requeue(job, claim.attempt, "broke")])
    store.rescue("m")
    assert store.get(job).state is JobState.EXPIRED
