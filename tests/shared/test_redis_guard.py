"""A Redis that may evict jobs is refused at start, and one that is full takes what gives room back."""

import pytest
from redis import Redis

from shared.connection import connect
from shared.errors import ConfigError, StorageFull
from shared.jobs import JobStore
from shared.records import Append, Finish, NewJob, Requeue, new_job_id
from shared.redis_guard import LOOK_SECONDS, MemoryGuard, require_noeviction
from shared.states import JobState
from tests.conftest import RedisServer, free_port


def test_an_evicting_redis_is_refused_by_name(own_redis: RedisServer) -> None:
    redis = Redis.from_url(own_redis.url)
    require_noeviction(redis)
    redis.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigError, match=r"allkeys-lru.*noeviction"):
        require_noeviction(redis)


def test_a_redis_that_cannot_be_asked_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    require_noeviction(connect(f"redis://127.0.0.1:{free_port()}/0", 0.2))
    assert "noeviction" in caplog.text


def test_a_full_redis_takes_no_jobs_and_every_end(own_redis: RedisServer) -> None:
    """A worker's write that is refused would be repeated until there is room, and its job's end with it."""
    redis = connect(own_redis.url, 5.0)
    store = JobStore(redis, "full", retention=60)
    for _ in range(6):
        store.create(NewJob(new_job_id(), "m", "t", b"x"), max_queued=10)
    first, second, third, fourth = store.claim("m", 4, "w").claims
    redis.zadd(store.keys("leases", "m"), {fourth.id: 1})
    redis.config_set("maxmemory", 1)

    with pytest.raises(StorageFull) as refused:
        JobStore(redis, "full").create(NewJob(new_job_id(), "m", "t", b"x"), max_queued=10)
    assert (refused.value.code, refused.value.problem.status) == ("storage_full", 503)
    with pytest.raises(StorageFull):
        store.claim("m", 2, "w", drain="d")

    said = Append(first.id, 1, 1, "token", b'{"text":"a","index":0}')
    done = Finish(first.id, 1, JobState.SUCCEEDED, b'"' + b"y" * 10_000 + b'"')
    assert store.write([said, done, Requeue(second.id, 1, "worker_stopping")]) == [1, 1, 1]
    assert store.beat("m", "w", b"{}", [(third.id, 1)]).results == [1]
    store.park([(third.id, 1)], parked=True)
    assert store.rescue("m").requeued == 1
    assert store.cancel(second.id) is JobState.CANCELED
    store.delete(first.id, "t")
    redis.close()


def test_new_jobs_are_refused_before_it_is_full(own_redis: RedisServer) -> None:
    redis = connect(own_redis.url, 5.0)
    guard = MemoryGuard(redis)
    guard.admit()
    redis.config_set("maxmemory", int(1.05 * redis.info("memory")["used_memory"]))  # type: ignore[index]
    guard._looked -= LOOK_SECONDS
    with pytest.raises(StorageFull):
        guard.admit()
    redis.close()
