"""A creation that fails half-way leaves nothing behind, for a client that tries again and for other jobs."""

from typing import Any

import pytest
from msgspec.structs import replace

from shared.domain.creation import Cached, Created, Followed, Outcome
from shared.domain.errors import StoreUnavailable
from shared.domain.records import Finish, new_job_id
from shared.domain.sharing import Share
from shared.domain.states import JobState
from shared.redis.connection import connect
from shared.store.jobs import JobStore
from tests.conftest import RedisServer, every
from tests.shared.store.jobs.jobs import MODEL
from tests.shared.store.jobs.test_creations_in_one_call import (
    KNOWN,
    Creation,
    creation,
    in_one_call,
    make,
    of_client,
)

SHARE = Share("asked", 60, 10, speaks=True)
OUTPUT = b'{"text":"known","finish_reason":"stop"}'
FAILING = """
local _calls, _counts, _redis = 0, false, redis
local redis = setmetatable({call = function(...)
  if _counts then _calls = _calls + 1 end
  if _counts and _calls == %d then error('ERR injected', 0) end
  return _redis.call(...)
end}, {__index = _redis})
"""
LOOP = "for i = 1, #ARGV do"


def failing(store: JobStore, number: int) -> Any:
    """The script of creations, which fails at this call of Redis of the second job."""
    text = str(store._scripts["create"].script)
    assert text.count(LOOP) == 1
    counting = text.replace(LOOP, f"{LOOP} _counts = i == 2")
    script = store.redis.register_script(FAILING % number + counting)
    store.redis.script_load(script.script)
    return script


def one_that_waits(store: JobStore) -> Creation:
    return creation(idempotency_key="k", body_digest="d", asked=b"q", charges=of_client(9), cost=5)


def one_that_leads(store: JobStore) -> Creation:
    return creation(share=SHARE, idempotency_key="k", body_digest="d")


def one_that_follows(store: JobStore) -> Creation:
    make(store, creation(share=SHARE))
    return creation(share=SHARE, idempotency_key="k", body_digest="d")


def one_that_is_cached(store: JobStore) -> Creation:
    make(store, creation(share=SHARE))
    [held] = store.claim(MODEL, 1, "w").claims
    store.write([Finish(held.id, held.attempt, JobState.SUCCEEDED, OUTPUT, b"", b"{}")])
    return creation(share=SHARE, idempotency_key="k", body_digest="d")


def one_whose_result_is_brought(store: JobStore) -> Creation:
    return creation(share=SHARE, known=KNOWN, idempotency_key="k", body_digest="d")


def untrue(store: JobStore) -> list[str]:
    """What is counted of waiting jobs and of bytes, and is not so."""
    redis: Any = store.redis
    found, lanes = list[str](), list(redis.scan_iter(store.keys("lane", MODEL, "normal", "*")))
    queue = redis.hgetall(store.keys("queue", MODEL))
    waiting = [name.decode() for lane in lanes for name in redis.zrange(lane, 0, -1)]
    if int(queue[b"depth"]) != len(waiting):
        found.append(f"{queue[b'depth']} wait and {len(waiting)} stand in lanes")
    cost = sum(int(redis.hget(store.keys("job", name), "cost")) for name in waiting)
    if int(queue.get(b"cost:normal:t", 0)) != cost:
        found.append(f"they cost {cost} and {queue[b'cost:normal:t']} is written")
    held = redis.hgetall(store.keys("bytes", "t"))
    total = int(held.pop(b"total"))
    if total != sum(int(value) for name, value in held.items() if name.isdigit()):
        found.append(f"{total} bytes are held in all, and not in parts")
    return found


def forgotten(store: JobStore) -> None:
    names = list(store.redis.scan_iter(f"{store.keys.prefix}:*", count=1000))
    store.redis.delete(*names)


def ends(store: JobStore, outcome: Outcome) -> bool:
    """Whether a worker gets the job, or has what it waits for."""
    while claims := store.claim(MODEL, 8, "w").claims:
        for held in claims:
            store.write([Finish(held.id, held.attempt, JobState.SUCCEEDED, OUTPUT, b"", b"{}")])
    return store.get(outcome.id).state is JobState.SUCCEEDED


@pytest.mark.explores
@pytest.mark.parametrize(
    ("what", "becomes"),
    [
        (one_that_waits, Created),
        (one_that_leads, Created),
        (one_that_follows, Followed),
        (one_that_is_cached, Cached),
        (one_whose_result_is_brought, Cached),
    ],
)
def test_a_creation_that_fails_anywhere_can_be_repeated_and_harms_no_other(
    store: JobStore, what: Any, becomes: type[Outcome]
) -> None:
    whole = store._scripts["create"]
    for number in every(2, range(1, 100)):
        broken = what(store)
        store._scripts["create"] = failing(store, number)
        before, failed, after = in_one_call(store, [creation(), broken, creation()])
        store._scripts["create"] = whole
        if not isinstance(failed, Exception):
            break
        assert "injected" in str(failed)
        assert [type(one) for one in (before, after)] == [Created, Created]
        assert untrue(store) == [], f"at call {number}"
        # The client tries again, or its call is sent again.
        renamed = replace(broken[0], id=new_job_id()) if number % 2 else broken[0]
        again = make(store, (renamed, broken[1]))
        assert type(again) is becomes, f"at call {number}: {again}"
        assert untrue(store) == [], f"at call {number}, and once it was repeated"
        assert ends(store, again), f"at call {number}"
        forgotten(store)
    assert number > 7


def test_who_may_not_publish_leaves_no_job_that_nobody_runs(own_redis: RedisServer) -> None:
    admin = JobStore(connect(own_redis.url, 5.0), "p")
    rules = ("on", ">pw", "~p:*", "+@all")
    admin.redis.execute_command("ACL", "SETUSER", "app", *rules, "resetchannels")
    store = JobStore(connect(own_redis.url.replace("//", "//app:pw@"), 5.0), "p")
    asked = creation(idempotency_key="k", body_digest="d")
    with pytest.raises(StoreUnavailable):
        make(store, asked)
    admin.redis.execute_command("ACL", "SETUSER", "app", "allchannels")
    assert ends(store, make(store, asked))
    assert untrue(store) == []


def test_a_call_whose_end_fails_leaves_none_of_its_jobs(store: JobStore) -> None:
    store.redis.set(store.keys("index", "t"), "no sorted set", ex=60)
    asked = [creation(idempotency_key=key, body_digest="d") for key in ("a", "b")]
    assert all("WRONGTYPE" in str(one) for one in in_one_call(store, asked))
    store.redis.delete(store.keys("index", "t"))
    for job, bounds in asked:
        again = make(store, (replace(job, id=new_job_id()), bounds))
        assert isinstance(again, Created)
        assert ends(store, again)
    assert untrue(store) == []
