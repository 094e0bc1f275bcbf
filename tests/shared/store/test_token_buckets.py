"""The limiter of one process alone: what a client may take, and when it may take more."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.quotas import Charge, Policy, QuotaStatus
from shared.store.token_buckets import TokenBuckets

START = 1_790_000_000_123
Take = Callable[[Charge, int], tuple[bool, QuotaStatus]]


def taker() -> Take:
    buckets = TokenBuckets()

    def take(charge: Charge, now: int) -> tuple[bool, QuotaStatus]:
        admitted, [status] = buckets.take("c", [charge], now)
        return admitted, status

    return take


steps = st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 4)), max_size=60)


@settings(max_examples=100)
@given(steps=steps, quota=st.integers(1, 12), seconds=st.sampled_from([1, 2, 7, 60]))
def test_in_any_span_no_more_is_taken_than_a_quota_and_what_comes_back_in_it(
    steps: list[tuple[int, int]], quota: int, seconds: int
) -> None:
    take, now, policy = taker(), START, Policy("p", quota, seconds)
    taken: list[tuple[int, int]] = []
    for pause, units in steps:
        now += pause
        charge = Charge(policy, units)
        admitted, status = take(charge, now)
        assert status.remaining + status.used == quota
        if admitted:
            taken.append((now, charge.cost))
        for first, (began, _) in enumerate(taken):
            span = now - began
            assert sum(cost for _, cost in taken[first:]) <= quota + span * quota / seconds / 1000


@settings(max_examples=60)
@given(steps=steps, quota=st.integers(1, 6), seconds=st.sampled_from([1, 7, 60]))
def test_who_waits_as_long_as_told_is_admitted_and_a_moment_earlier_is_not(
    steps: list[tuple[int, int]], quota: int, seconds: int
) -> None:
    take, now, policy = taker(), START, Policy("p", quota, seconds)
    for pause, units in steps:
        now += pause
        admitted, status = take(Charge(policy, units), now)
        if not admitted:
            assert status.wait_ms > 0
            early, _ = take(Charge(policy, units), now + status.wait_ms - 1)
            late, _ = take(Charge(policy, units), now + status.wait_ms)
            assert (early, late) == (False, True)
            now += status.wait_ms


def test_it_says_when_more_comes_back() -> None:
    take, policy = taker(), Policy("p", 2, 60)

    assert take(Charge(policy), START) == (True, QuotaStatus(policy, 1, 30_000, 0))
    assert take(Charge(policy), START) == (True, QuotaStatus(policy, 2, 30_000, 0))
    assert take(Charge(policy), START + 10_000) == (False, QuotaStatus(policy, 2, 20_000, 1))
    assert take(Charge(policy), START + 30_000) == (True, QuotaStatus(policy, 2, 30_000, 1))
    assert take(Charge(policy, 0), START + 90_000) == (True, QuotaStatus(policy, 0, 0, 0))


def test_a_refusal_by_one_policy_costs_nothing_of_the_others() -> None:
    buckets = TokenBuckets()
    minute, hour = Policy("minute", 1, 60), Policy("hour", 10, 3600)
    both = [Charge(minute), Charge(hour)]

    assert buckets.take("c", both, START)[0]
    admitted, statuses = buckets.take("c", both, START)

    assert not admitted
    assert [(one.used, one.refused) for one in statuses] == [(1, 1), (1, 0)]


def test_a_charge_above_the_quota_takes_all_of_it() -> None:
    take, policy = taker(), Policy("tokens", 100, 60, "tokens")

    assert take(Charge(policy, 5_000), START)[0]
    admitted, status = take(Charge(policy, 1), START + 1)

    assert not admitted
    assert (status.used, status.remaining, status.refused) == (100, 0, 1)


def test_a_clock_that_goes_back_gives_nothing_away_and_locks_nobody_out() -> None:
    take, policy = taker(), Policy("p", 1, 60)

    assert take(Charge(policy), START + 86_400_000)[0]
    assert not take(Charge(policy), START)[0]
    assert take(Charge(policy), START + 60_000)[0]


def test_a_process_forgets_whom_it_has_not_seen_for_longest() -> None:
    buckets, charge = TokenBuckets(most=2), Charge(Policy("p", 1, 60))
    for client in ("a", "b", "a", "c"):
        buckets.take(client, [charge], START)

    assert not buckets.take("a", [charge], START)[0]
    assert buckets.take("b", [charge], START)[0]
