"""The sliding windows of Redis against an exact log of everything that was taken."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from shared.domain.quotas import Charge, Policy, QuotaStatus
from shared.hooks import Hooks, Observers
from shared.store.keys import Keys
from shared.store.lua_constants import RATE_SLOTS as SLOTS
from shared.store.rate_limits import RateLimiter
from tests.conftest import RedisServer, examples

START = 1_790_000_000_123
Take = Callable[[Sequence[Charge], int], tuple[bool, Sequence[QuotaStatus]]]
fresh = count()


@pytest.fixture(scope="module")
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    client = Redis.from_url(redis_server.url)
    yield client
    client.delete(*client.scan_iter("windows:*"), "windows")
    client.close()


class Alone(Hooks):
    """Counts decisions that were made without Redis."""

    decisions = 0

    def limiter_local(self) -> None:
        self.decisions += 1


@pytest.fixture(scope="module")
def limiter(redis: Redis) -> Callable[[], Take]:
    """Makes limiters that nobody has used."""

    def shared() -> Take:
        clock = [0]
        keys = Keys(f"windows:{next(fresh)}")
        alone = Alone()
        limiter = RateLimiter(redis, keys, Observers(alone), clock=lambda: clock[0])

        def take(charges: Sequence[Charge], now: int) -> tuple[bool, Sequence[QuotaStatus]]:
            clock[0] = now
            decision = limiter.take("c", charges)
            assert not alone.decisions
            return decision.refused is None, decision.quota_status

        return take

    return shared


class Log:
    """Every unit that was taken, with its time."""

    def __init__(self) -> None:
        self._taken: list[tuple[int, int]] = []

    def add(self, now: int, units: int) -> None:
        self._taken.append((now, units))

    def within(self, now: int, milliseconds: float) -> int:
        return sum(units for at, units in self._taken if now - milliseconds < at <= now)


# fmt: off
steps = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 40), st.integers(0, 3_000), st.integers(0, 200_000)),
        st.integers(1, 4),
    ),
    max_size=60,
)
# fmt: on


@settings(max_examples=examples(60))
@given(steps=steps, quota=st.integers(1, 12), seconds=st.sampled_from([1, 2, 7, 60]))
def test_no_window_ever_holds_more_and_a_refusal_is_right_to_a_slot(
    limiter: Callable[[], Take], steps: list[tuple[int, int]], quota: int, seconds: int
) -> None:
    take, log, now = limiter(), Log(), START
    policy, span = Policy("p", quota, seconds), seconds * 1000
    for pause, units in steps:
        now += pause
        charge = Charge(policy, units)
        admitted, [status] = take([charge], now)
        if admitted:
            log.add(now, charge.cost)
            assert log.within(now, span) <= quota
        else:
            assert log.within(now, span + span / SLOTS) + charge.cost > quota
            assert 0 < status.wait_ms <= span + span / SLOTS + 1
        assert log.within(now, span) <= status.used <= log.within(now, span + span / SLOTS)


@settings(max_examples=examples(40))
@given(steps=steps, quota=st.integers(1, 6), seconds=st.sampled_from([1, 7, 60]))
def test_who_waits_as_long_as_told_is_admitted_and_a_moment_earlier_is_not(
    limiter: Callable[[], Take], steps: list[tuple[int, int]], quota: int, seconds: int
) -> None:
    take, now = limiter(), START
    policy = Policy("p", quota, seconds)
    for pause, units in steps:
        now += pause
        admitted, [status] = take([Charge(policy, units)], now)
        if not admitted:
            early, _ = take([Charge(policy, units)], now + status.wait_ms - 1)
            late, _ = take([Charge(policy, units)], now + status.wait_ms)
            assert (early, late) == (False, True)
            now += status.wait_ms


@settings(max_examples=examples(40))
@given(steps=steps, short=st.integers(1, 6), long=st.integers(1, 20))
def test_a_refusal_by_one_policy_costs_nothing_of_the_others(
    limiter: Callable[[], Take], steps: list[tuple[int, int]], short: int, long: int
) -> None:
    take, log, now = limiter(), Log(), START
    burst, hour = Policy("minute", short, 60), Policy("hour", long, 3600)
    for pause, _ in steps:
        now += pause
        admitted, quota_status = take([Charge(burst), Charge(hour)], now)
        if admitted:
            log.add(now, 1)
        for policy, status in zip((burst, hour), quota_status, strict=True):
            span = policy.seconds * 1000
            assert log.within(now, span) <= status.used <= policy.quota
            assert status.used <= log.within(now, span + span / SLOTS)


def test_a_charge_above_the_quota_takes_all_of_it(limiter: Callable[[], Take]) -> None:
    take, policy = limiter(), Policy("tokens", 100, 60, "tokens")

    assert take([Charge(policy, 5_000)], START)[0]
    admitted, [status] = take([Charge(policy, 1)], START + 1)

    assert not admitted
    assert (status.used, status.remaining, status.refused) == (100, 0, 1)


def test_a_clock_that_goes_back_gives_nothing_away(limiter: Callable[[], Take]) -> None:
    take, policy = limiter(), Policy("p", 1, 60)

    assert take([Charge(policy)], START)[0]
    assert not take([Charge(policy)], START - 30_000)[0]
    assert not take([Charge(policy)], START + 60_000)[0]
    assert take([Charge(policy)], START + 61_000)[0]


def test_a_clock_that_was_far_ahead_locks_nobody_out(limiter: Callable[[], Take]) -> None:
    take, policy = limiter(), Policy("p", 1, 60)

    assert take([Charge(policy)], START + 86_400_000)[0]
    assert take([Charge(policy)], START)[0]
    assert not take([Charge(policy)], START)[0]
