"""Random jobs of several tenants: many made in one call are as if each had come in a call of its own."""

import random
from typing import Any

import pytest

from shared.domain.quotas import Charge, ClientCharges, Policy
from shared.domain.records import Append, Finish, Write
from shared.domain.sharing import Share
from shared.domain.states import CLASSES, JobState
from shared.store.jobs import JobStore
from tests.conftest import exploring, store_of
from tests.shared.store.jobs.test_creations_in_one_call import (
    KNOWN,
    Creation,
    creation,
    gist,
    in_one_call,
    make,
)

MODELS, TENANTS = ("m", "n"), ("t", "u", "v")
OUTPUT = b'{"text":"o","finish_reason":"stop"}'


def any_of(draw: random.Random, fields: dict[str, list[Any]], chance: float) -> dict[str, Any]:
    return {name: draw.choice(of) for name, of in fields.items() if draw.random() < chance}


def charges(draw: random.Random) -> ClientCharges:
    policies = [Charge(Policy("submit", draw.choice([2, 4]), 3600), draw.choice([0, 1]))]
    if draw.random() < 0.5:
        policies.append(Charge(Policy("tokens", draw.choice([3, 9]), 3600), 3))
    return ClientCharges(f"key:{draw.choice('kl')}", tuple(policies))


def any_creation(draw: random.Random) -> Creation:
    """Few keys, shared requests, tenants and models, and low bounds, so that jobs meet."""
    often = {"priority": list(CLASSES), "cost": [1, 3, 9]}
    seldom = {
        "max_queued": [1, 3, 6],
        "tenant_max": [1, 3],
        "max_bytes": [1000, 6000, 20000],
        "asked": [b"q", b"q" * 500],
        "reply_channel": ["api:1"],
        "urgent": [True],
        "metadata": [{"a": "b"}],
        "expires_in": [600.0, 7200.0],
        "charges": [charges(draw)],
    }
    fields = any_of(draw, often, 0.5) | any_of(draw, seldom, 0.25)
    if draw.random() < 0.4:
        fields |= {"idempotency_key": f"k{draw.randrange(4)}", "body_digest": draw.choice("de")}
        if draw.random() < 0.3:
            fields |= {"takes_key": True, "joins": draw.choice([0.0, 600.0])}
    if draw.random() < 0.4:
        ttl, most = draw.choice([0, 600]), draw.choice([1, 10])
        fields["share"] = Share(f"s{draw.randrange(3)}", ttl, most, speaks=draw.random() < 0.5)
        fields |= any_of(draw, {"known": [KNOWN]}, 0.25)
    return creation(tenant=draw.choice(TENANTS), model=draw.choice(MODELS), **fields)


def any_calls(draw: random.Random) -> list[list[Creation]]:
    made: list[Creation] = []
    calls = []
    for _ in range(draw.randint(1, 4)):
        call = []
        for _ in range(draw.randint(2, 16)):
            again = made and draw.random() < 0.1
            call.append(draw.choice(made) if again else any_creation(draw))
            made.append(call[-1])
        calls.append(call)
    return calls


def work(store: JobStore, model: str, room: int) -> list[str]:
    """A worker ends every third job that it gets, and begins to tell another third."""
    held = store.claim(model, room, "w").claims
    writes: list[Write] = []
    for number, one in enumerate(held):
        if number % 3 == 0:
            writes.append(Finish(one.id, one.attempt, JobState.SUCCEEDED, OUTPUT, b"", b"{}"))
        elif number % 3 == 1:
            writes.append(Append(one.id, one.attempt, 1, "token", b'{"text":"x","index":0}'))
    store.write(writes)
    return [one.id for one in held]


def stands(store: JobStore) -> list[object]:
    """The queues as they are written: who waits where, and what is counted of it."""
    redis: Any = store.redis
    found: list[object] = []
    for model in MODELS:
        found.append(redis.hget(store.keys("queue", model), "depth"))
        found.append(sorted(redis.zrange(store.keys("deadlines", model), 0, -1)))
        for lane in [(model, one, tenant) for one in CLASSES for tenant in TENANTS]:
            found.append(redis.zrange(store.keys("lane", *lane), 0, -1))
            cost = redis.hget(store.keys("queue", model), f"cost:{lane[1]}:{lane[2]}")
            found.append(int(cost or 0))
    for tenant in TENANTS:
        found.append(redis.hget(store.keys("bytes", tenant), "total"))
        found.append(redis.zrange(store.keys("index", tenant), 0, -1))
    return found


@pytest.mark.explores
@pytest.mark.parametrize("seed", range(400 if exploring() else 12))
def test_any_jobs_of_one_call_are_as_jobs_of_one_call_each(
    seed: int, redis_url: str, prefix: str
) -> None:
    draw = random.Random(seed)
    calls, rooms = any_calls(draw), [draw.choice([0, 1, 3, 8]) for _ in range(4)]
    # Afterwards each must have no key without an expiry.
    with store_of(redis_url, f"{prefix}-one") as one, store_of(redis_url, f"{prefix}-many") as many:
        for call, room in zip(calls, rooms, strict=False):
            alone = [gist(make(one, each)) for each in call]
            assert [gist(each) for each in in_one_call(many, call)] == alone
            assert stands(many) == stands(one)
            for model in MODELS if room else ():
                assert work(many, model, room) == work(one, model, room)


def both_ways(redis_url: str, prefix: str, call: list[Creation]) -> None:
    with store_of(redis_url, f"{prefix}-one") as one, store_of(redis_url, f"{prefix}-many") as many:
        alone = [gist(make(one, each)) for each in call]
        assert [gist(each) for each in in_one_call(many, call)] == alone
        assert stands(many) == stands(one)


def test_deadlines_expire_of_a_model_whose_first_job_had_its_result(
    redis_url: str, prefix: str
) -> None:
    known = creation(model="m", share=Share("s", 600, 10, speaks=False), known=KNOWN)
    # To estimate when the third one starts, what the call has made so far is written.
    others = [creation(model="n", tenant=tenant) for tenant in ("t", "u")]
    both_ways(redis_url, prefix, [known, *others, creation(model="n"), creation(model="m")])


def test_bytes_of_a_result_count_for_the_next_job_of_the_call(redis_url: str, prefix: str) -> None:
    known = [creation(share=Share(one, 600, 10, speaks=False), known=KNOWN) for one in "abc"]
    bounded = [creation(max_bytes=most) for most in range(3000, 5200, 200)]
    both_ways(redis_url, prefix, [*known, *bounded])
