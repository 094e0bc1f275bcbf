"""Jobs that meet on their way to Redis: one call of a script makes them, as calls of their own would."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from shared.domain.creation import Created, Limited, Outcome
from shared.domain.errors import StoreUnavailable
from shared.domain.quotas import Charge, ClientCharges, Policy
from shared.domain.records import NewJob, new_job_id
from shared.domain.sharing import Result, Share
from shared.redis.connection import connect
from shared.store.jobs import JobStore
from tests.conftest import RedisServer
from tests.shared.store.jobs.jobs import MODEL, submit
from tests.shared.together import together

KNOWN = Result(
    b'{"text":"known","finish_reason":"stop"}', b'{"prompt_tokens":1,"completion_tokens":1}'
)
Creation = tuple[NewJob, dict[str, Any]]


def creation(*, tenant: str = "t", model: str = MODEL, **fields: Any) -> Creation:
    bounds = {
        name: fields.pop(name)
        for name in ("tenant_max", "max_bytes", "known", "charges", "reply_channel", "urgent")
        if name in fields
    }
    bounds["max_queued"] = fields.pop("max_queued", 100)
    fields.setdefault("request", b'{"content":"x"}')
    return NewJob(fields.pop("id", new_job_id()), model, tenant, **fields), bounds


def of_client(requests: int) -> ClientCharges:
    return ClientCharges("key:k", (Charge(Policy("submit", requests, 3600)),))


def of_every_kind() -> list[Creation]:
    """What jobs of one call may do to one another: in each run the first change what becomes of the next."""
    again, shared = new_job_id(), Share("asked", 60, 10, speaks=True)
    brought = Share("brought", 60, 10, speaks=True)
    return [
        creation(),
        creation(reply_channel="api:1", cost=7, metadata={"a": "b"}),
        *(creation(idempotency_key="k", body_digest="d") for _ in range(2)),
        creation(idempotency_key="k", body_digest="other"),
        creation(idempotency_key="k", body_digest="d", tenant="another"),
        *(
            creation(idempotency_key="own", body_digest="d", takes_key=True, joins=j)
            for j in (60.0, 0.0)
        ),
        *(creation(id=again, charges=of_client(2)) for _ in range(2)),
        *(creation(charges=of_client(2), priority="high") for _ in range(2)),
        *(creation(share=shared, priority=p) for p in ("normal", "low", "high")),
        creation(share=brought, known=KNOWN),
        creation(share=brought),
        creation(share=brought, tenant="another"),
        *(creation(model="short", max_queued=2, urgent=True) for _ in range(3)),
        *(creation(model="fair", tenant_max=1, tenant=t) for t in ("t", "t", "another")),
        *(
            creation(model="mixed", tenant=t, priority=p, cost=c)
            for t, p, c in (
                ("t", "normal", 3),
                ("u", "normal", 5),
                ("t", "low", 1),
                ("u", "high", 2),
                ("t", "normal", 7),
                ("u", "normal", 1),
                ("v", "low", 1),
            )
        ),
        *(creation(tenant="small", max_bytes=4000, asked=b"q" * 1000) for _ in range(4)),
    ]


def make(store: JobStore, one: Creation) -> Outcome:
    return store.create(one[0], **one[1])


def in_one_call(store: JobStore, creations: Sequence[Creation]) -> list[Any]:
    """What became of each, or what it raised."""
    # Redis must know the script: one that it has to be told goes alone for each.
    store.redis.script_load(store._scripts["create"].script)
    calls: list[Callable[[], Outcome]] = [partial(make, store, one) for one in creations]
    futures, carried = together(store._pipeline, lambda: store.call("backlog", MODEL), calls)
    assert carried[0] == min(len(creations), 16)
    return [future.exception() or future.result() for future in futures]


def gist(outcome: Outcome) -> list[object]:
    """An outcome without its times."""
    found: list[object] = [type(outcome).__name__, outcome.id]
    found += [getattr(outcome, name, None) for name in ("ring", "position", "reason", "result")]
    if outcome.quota is not None:
        found += [(status.used, status.refused) for status in outcome.quota.quota_status]
    return found


def timeless(value: object) -> str:
    return re.sub(r"\d{5,}", "TIME", value.decode() if isinstance(value, bytes) else str(value))


def keys_of(store: JobStore) -> list[object]:
    """What stands in Redis, without times: rate windows by name, sums of minutes and seconds added up."""
    found, sums = list[object](), dict[str, int]()
    for key in store.redis.scan_iter(f"{store.keys.prefix}:*", count=1000):
        name, kind = key.decode().removeprefix(store.keys.prefix), store.redis.type(key)
        if kind == b"hash" and name.startswith((":stats:", ":used:")):
            for field, count in store.redis.hgetall(key).items():
                label = timeless(f"{name} {field.decode()}")
                sums[label] = sums.get(label, 0) + int(count)
        elif kind == b"hash" and name.startswith(":bytes:"):
            found.append((name, store.redis.hget(key, "total")))
        elif kind == b"hash":
            fields = store.redis.hgetall(key).items()
            found.append((timeless(name), sorted((timeless(a), timeless(b)) for a, b in fields)))
        elif kind == b"zset":
            scores = store.redis.zrange(key, 0, -1, withscores=True)
            found.append((timeless(name), sorted((one, timeless(int(n))) for one, n in scores)))
        elif name.startswith(":window:"):
            found.append(name)
        else:
            value = store.redis.get(key) if kind == b"string" else kind
            found.append((timeless(name), timeless(value)))
    return [*sorted(found, key=repr), sums]


def test_jobs_of_one_call_are_as_jobs_of_one_call_each(store: JobStore) -> None:
    creations = of_every_kind()
    together_store = JobStore(store.redis, f"{store.keys.prefix}-2", retention=60, lease=5.0)
    one_by_one = [gist(make(store, one)) for one in creations]
    first = keys_of(store)
    assert [gist(one) for one in in_one_call(together_store, creations)] == one_by_one
    assert keys_of(together_store) == first
    kinds = {str(one[0]) for one in one_by_one}
    assert kinds == {
        "Created", "Followed", "Cached", "Replayed", "Mismatched", "Limited", "Refused"
    }  # fmt: skip
    reasons = {str(one[4]) for one in one_by_one if one[0] == "Refused"}
    assert reasons == {"queue_full", "tenant_queue_full", "storage_quota_exceeded"}


def commands_of(store: JobStore, jobs: int) -> dict[str, int]:
    """How often each command runs while one call makes so many jobs."""
    keyed = [
        creation(
            charges=of_client(1000),
            idempotency_key=new_job_id(),
            body_digest="d",
            reply_channel="api",
        )
        for _ in range(jobs)
    ]
    store.redis.config_resetstat()
    in_one_call(store, keyed)
    stats = store.redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}


def test_what_jobs_of_one_call_share_is_read_and_written_once(own_redis: RedisServer) -> None:
    store = JobStore(connect(own_redis.url, 5.0), "p")
    commands_of(store, 1)
    few, many = commands_of(store, 4), commands_of(store, 16)
    # Whole ones: a minute that begins meanwhile makes a command more.
    each = {name: (count - few.get(name, 0)) // 12 for name, count in many.items()}
    own = {"get": 1, "hset": 1, "expire": 1, "set": 2}
    assert {name: count for name, count in each.items() if count} == own, "a job's own keys"


def test_jobs_of_one_call_wait_in_their_order(store: JobStore) -> None:
    creations = [creation() for _ in range(16)]
    outcomes = in_one_call(store, creations)
    assert [one.position for one in outcomes] == list(range(16))
    assert [one.ring for one in outcomes] == [True, *[False] * 15], "one doorbell is enough"
    claims = store.claim(MODEL, 16, "w").claims
    assert [one.id for one in claims] == [job.id for job, _ in creations]


def test_as_many_idle_workers_are_woken_as_jobs_come_in_one_call(store: JobStore) -> None:
    channels = []
    for worker in ("a", "b", "c"):
        store.claim(MODEL, 4, worker, drain=worker)
        channel = store.redis.pubsub()
        channel.subscribe(store.keys("rouse", worker))
        channel.get_message(timeout=5)
        channels.append(channel)
    in_one_call(store, [creation() for _ in range(2)])
    woken = [channel.get_message(timeout=0.2) is not None for channel in channels]
    assert woken == [True, True, False]


def test_a_job_at_which_the_script_fails_harms_no_other_of_its_call(store: JobStore) -> None:
    # What its tenant is counted with is no hash.
    store.redis.set(store.keys("bytes", "broken"), "x", ex=60)
    whole, broken = [creation(), creation()], creation(tenant="broken")
    before, failed, after = in_one_call(store, [whole[0], broken, whole[1]])
    assert (before.position, after.position) == (0, 1)
    assert "WRONGTYPE" in str(failed)
    with pytest.raises(type(failed), match="WRONGTYPE"):
        make(store, broken)
    assert store.status(MODEL).waiting == 2


def test_a_call_that_is_repeated_makes_no_second_jobs(store: JobStore) -> None:
    creations = [creation(charges=of_client(4)) for _ in range(6)]
    first, again = in_one_call(store, creations), in_one_call(store, creations)
    kinds = [Created] * 4 + [Limited] * 2
    assert [type(one) for one in first] == kinds == [type(one) for one in again]
    assert [one.id for one in first] == [one.id for one in again]
    assert store.status(MODEL).waiting == 4


def test_a_full_redis_refuses_every_job_of_a_call(own_redis: RedisServer) -> None:
    store = JobStore(connect(own_redis.url, 5.0), "p")
    submit(store)
    store.redis.config_set("maxmemory", 1)
    refused = in_one_call(store, [creation(), creation()])
    assert [type(one).__name__ for one in refused] == ["StorageFull"] * 2


def test_a_server_that_is_no_primary_any_more_refuses_the_call_as_a_whole(
    own_redis: RedisServer,
) -> None:
    store = JobStore(connect(own_redis.url, 5.0), "p")
    submit(store)
    store.redis.replicaof("127.0.0.1", "1")
    refused = in_one_call(store, [creation(), creation()])
    assert [type(one) for one in refused] == [StoreUnavailable] * 2, refused
    assert refused[0].__cause__ is refused[1].__cause__, "a client that finds primaries sees it"
