"""The limiter with a real Redis: many processes, Redis away and back, what it costs, what it shows."""

import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from shared.domain.quotas import Charge, Policy
from shared.hooks import Hooks, Observers
from shared.store.jobs import JobStore
from shared.store.keys import Keys
from shared.store.lua_constants import RATE_SLOTS
from shared.store.rate_limits import RateLimiter
from tests.conftest import RedisServer, eventually

PROCESSES = 16
MINUTE, HOUR, TOKENS = Policy("m", 2, 60), Policy("h", 9, 3600), Policy("t", 50, 60, "tokens")


class Seen(Hooks):
    local = 0

    def limiter_local(self) -> None:
        self.local += 1


def limiter_at(
    url: str, prefix: str, seen: Seen | None = None, timeout: float = 5.0
) -> RateLimiter:
    redis = Redis.from_url(url, socket_timeout=timeout, socket_connect_timeout=timeout)
    return RateLimiter(redis, Keys(prefix), Observers(*([seen] if seen else [])))


@pytest.fixture
def limiter(store: JobStore, redis_url: str, prefix: str) -> RateLimiter:
    """Under the test's prefix: `store` sees to it that no key is left without a TTL."""
    return limiter_at(redis_url, prefix)


def hammer(url: str, prefix: str, policy: Policy, until: float, out: Any) -> None:
    """Take as often as possible, and tell when, by Redis's clock at the latest and at the earliest."""
    redis, seen = Redis.from_url(url), Seen()
    limiter = limiter_at(url, prefix, seen)
    taken, asked = [], 0
    while time.time() < until:
        before = milliseconds(redis)
        asked += 1
        if limiter.take("c", [Charge(policy)]).refused is None:
            taken.append((before, milliseconds(redis)))
    out.put((taken, asked, seen.local))


def milliseconds(redis: Redis) -> float:
    seconds, micros = redis.time()  # type: ignore[misc]
    return float(seconds * 1000 + micros / 1000)


def test_sixteen_processes_of_one_client_never_exceed_the_limit(
    store: JobStore, redis_url: str, prefix: str
) -> None:
    policy, seconds = Policy("p", 40, 1), 2.5
    context = multiprocessing.get_context("fork")
    out = context.Queue()
    until = time.time() + seconds
    args = (redis_url, prefix, policy, until, out)
    workers = [context.Process(target=hammer, args=args) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    results = [out.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()

    taken = sorted(pair for pairs, _, _ in results for pair in pairs)
    assert sum(local for _, _, local in results) == 0
    assert sum(asked for _, asked, _ in results) > 2 * len(taken), (
        "they asked for more than they got"
    )
    # The decision lies between the two readings: what surely fell into one window is not too much.
    for begin, _ in taken:
        assert sum(begin <= at and end < begin + 1000 for at, end in taken) <= policy.quota
    window = 1000 + 1000 / RATE_SLOTS
    last = max(end for _, end in taken)
    assert len(taken) >= policy.quota * ((last - taken[0][0]) // window), "nor do they get less"


def test_a_decision_on_three_policies_is_one_round_trip(
    limiter: RateLimiter, redis_url: str
) -> None:
    charges = [Charge(MINUTE), Charge(HOUR), Charge(TOKENS, 7)]
    limiter.take("c", charges)
    with Redis.from_url(redis_url).monitor() as monitor:
        commands = monitor.listen()
        limiter.take("c", charges)
        limiter.take("end", charges)
        seen = list(sent_by_clients(commands))
    assert len(seen) == 1


def sent_by_clients(commands: Iterator[dict[str, Any]]) -> Iterator[str]:
    """What clients sent until the call for the client `end`; scripts' own commands are not sent."""
    for command in commands:
        if command["client_type"] == "lua" or "EVALSHA" not in command["command"].upper():
            continue
        if "end" in command["command"]:
            return
        yield command["command"]


def test_the_policy_that_lasts_longest_is_named(limiter: RateLimiter) -> None:
    hour = Policy("h", 2, 3600)
    for _ in range(2):
        assert limiter.take("c", [Charge(MINUTE), Charge(hour)]).refused is None

    decision = limiter.take("c", [Charge(MINUTE), Charge(hour)])

    assert decision.refused is not None and decision.refused.policy is hour
    assert decision.refused.wait_ms > 60_000
    assert [status.remaining for status in decision.quota_status] == [0, 0]
    assert limiter.take("somebody else", [Charge(MINUTE)]).refused is None


def test_where_nothing_is_charged_everybody_is_let_through(limiter: RateLimiter) -> None:
    seen = Seen()
    limiter._observers.add(seen)
    assert limiter.take("c", []).refused is None
    assert seen.local == 0, "the script took it"
    assert limiter.usage([MINUTE]) == []


def test_usage_is_shown_and_costs_nothing(limiter: RateLimiter) -> None:
    for client in ("a", "b", "b", "b"):
        limiter.take(client, [Charge(MINUTE), Charge(HOUR)])

    both = limiter.usage([MINUTE, HOUR, TOKENS])
    own = limiter.usage([MINUTE], "b")

    assert [(u.client, u.policy, u.quota, u.used, u.refused) for u in both] == [
        ("b", "m", 2, 2, 1),
        ("b", "h", 9, 2, 0),
        ("a", "m", 2, 1, 0),
        ("a", "h", 9, 1, 0),
    ]
    assert own == [both[0]]


def test_a_process_decides_alone_while_redis_is_away(own_redis: RedisServer) -> None:
    seen = Seen()
    limiter = limiter_at(own_redis.url, "p", seen, timeout=0.2)
    assert limiter.take("c", [Charge(MINUTE)]).refused is None
    own_redis.stop()

    alone = [limiter.take("c", [Charge(MINUTE)]).refused for _ in range(3)]

    assert [refused is None for refused in alone] == [True, True, False]
    assert seen.local == 3
    own_redis.start()

    def asks_redis_again() -> bool:
        before = seen.local
        limiter.take("d", [Charge(MINUTE)])
        return seen.local == before

    eventually(asks_redis_again)
