"""The breaker: its rules, its twin in Lua held to it, and one probe over many processes."""

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.breaker import BreakerState, Verdict
from shared.domain.models.catalog import Breaker as BreakerSection
from shared.domain.models.catalog import ModelSpec, Retries
from shared.domain.records import Claim, Finish, NewJob, Requeue, new_job_id
from shared.domain.states import JobState
from shared.domain.write_results import WriteResult
from shared.store.breaker import Breaker as WorkersOwn
from shared.store.breaker import BreakerPolicy, cooldown
from shared.store.jobs import JobStore
from shared.store.scripts import whole_script
from tests.conftest import eventually, examples
from tests.shared.racer import race
from tests.shared.store.breaker_model import Breaker

CLOSED, OPEN, HALF_OPEN = BreakerState
POLICY = BreakerPolicy(threshold=3, cooldown=1000, longest=3000, rate=0.5, volume=10, window=10_000)
MODEL = "m"


def failing(times: int, now: int = 1, policy: BreakerPolicy = POLICY) -> Breaker:
    breaker = Breaker()
    for _ in range(times):
        breaker.record(policy, now, "a", "failure")
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    assert failing(2).state is CLOSED
    breaker = failing(3)
    assert (breaker.state, breaker.opened, breaker.wait(1)) == (OPEN, 1, 1000)


@pytest.mark.parametrize("between", ["success", "ignored"])
def test_only_a_success_breaks_the_row(between: Verdict) -> None:
    breaker = failing(2)
    breaker.record(POLICY, 1, "a", between)
    breaker.record(POLICY, 1, "a", "failure")
    assert breaker.state is (CLOSED if between == "success" else OPEN)


def test_it_opens_when_half_of_enough_attempts_fail() -> None:
    breaker = Breaker()
    for number in range(9):
        breaker.record(POLICY, number, "a", "failure" if number % 2 else "success")
    assert breaker.state is CLOSED, "below the minimum volume"
    breaker.record(POLICY, 9, "a", "failure")
    assert breaker.state is OPEN


def test_the_window_slides() -> None:
    breaker = Breaker()
    for number in range(9):
        breaker.record(POLICY, number, "a", "failure" if number % 2 else "success")
    breaker.record(POLICY, 20_000, "a", "failure")
    assert breaker.state is CLOSED
    assert [slot[1:] for slot in breaker.window] == [(0, 1)]


def test_half_open_lets_one_probe_in() -> None:
    breaker = failing(3)
    assert breaker.wait(1001) == 0
    breaker.begin(1001, "probe", 500)
    assert breaker.state is HALF_OPEN
    assert breaker.wait(1100) == 401
    breaker.record(POLICY, 1100, "another", "success")
    assert breaker.state is HALF_OPEN, "attempts from before it opened decide nothing"
    breaker.record(POLICY, 1200, "probe", "success")
    assert (breaker.state, breaker.wait(1200), breaker.consecutive) == (CLOSED, 0, 0)


def test_a_dead_prober_blocks_no_longer_than_its_lease() -> None:
    breaker = failing(3)
    breaker.wait(1001)
    breaker.begin(1001, "probe", 500)
    breaker.renew(1400, "probe", 500)
    breaker.renew(1400, "somebody else", 5000)
    assert breaker.wait(1899) == 1
    assert breaker.wait(1900) == 0
    breaker.begin(1900, "next", 500)
    breaker.record(POLICY, 1950, "probe", "success")
    assert breaker.state is HALF_OPEN, "the late one is no longer the probe"


def test_a_probe_that_says_nothing_makes_room_for_another() -> None:
    breaker = failing(3)
    breaker.wait(1001)
    breaker.begin(1001, "probe", 500)
    breaker.record(POLICY, 1002, "probe", "ignored")
    assert (breaker.state, breaker.wait(1002)) == (HALF_OPEN, 0)


@pytest.mark.parametrize(
    ("verdict", "holder"), [("failure", "probe"), ("lost", ""), ("collateral", "probe")]
)
def test_a_failed_probe_reopens_for_longer_up_to_a_bound(verdict: Verdict, holder: str) -> None:
    breaker, now, waits = failing(3), 1, []
    for _ in range(4):
        waits.append(breaker.wait(now))
        now += waits[-1]
        assert breaker.wait(now) == 0
        breaker.begin(now, "probe", 500)
        breaker.record(POLICY, now, holder, verdict)
    assert waits == [1000, 2000, 3000, 3000]


def test_the_cool_down_is_short_again_after_it_stayed_closed() -> None:
    def reopened(later: int) -> int:
        breaker = failing(3)
        breaker.wait(1001)
        breaker.begin(1001, "probe", 500)
        breaker.record(POLICY, 1001, "probe", "success")
        for _ in range(3):
            breaker.record(POLICY, 1001 + later, "a", "failure")
        assert breaker.state is OPEN
        return breaker.wait(1001 + later)

    assert reopened(999) == 2000
    assert reopened(1000) == 1000


def test_one_worker_among_several_cannot_open_it_alone() -> None:
    breaker = Breaker()
    for _ in range(30):
        breaker.record(POLICY, 1, "a", "failure", source="w1", workers=2)
    assert breaker.state is CLOSED
    breaker.record(POLICY, 2, "a", "failure", source="w2", workers=2)
    assert breaker.state is OPEN


def test_a_host_lost_elsewhere_does_not_decide_over_the_probe() -> None:
    breaker = failing(3)
    breaker.wait(1001)
    breaker.begin(1001, "probe", 500)
    breaker.record(POLICY, 1002, "", "lost", source="w2", workers=2)
    breaker.record(POLICY, 1002, "another", "collateral", source="w2", workers=2)
    assert breaker.state is HALF_OPEN
    breaker.record(POLICY, 1003, "probe", "success", source="w1", workers=2)
    assert breaker.state is CLOSED


def test_reset_closes_and_keeps_the_statistics() -> None:
    breaker = failing(3)
    breaker.reset(5)
    assert (breaker.state, breaker.opened, breaker.failures, breaker.streak) == (CLOSED, 1, 3, 0)
    assert breaker.status(5).until == 0


def test_to_look_changes_nothing() -> None:
    breaker = failing(3)
    before = replace(breaker)
    shown = breaker.status(5000)
    assert (shown.state, shown.since, shown.until, shown.wait) == (HALF_OPEN, 1001, 1001, 0)
    assert breaker == before


def test_the_policy_comes_from_the_catalogue() -> None:
    spec = ModelSpec(
        name="m",
        engine="echo",
        breaker=BreakerSection(failure_threshold=7, timeout_sec=2.5, max_timeout_sec=1),
        retries=Retries(budget_ratio=0.2, budget_floor=3),
    )
    policy = BreakerPolicy.of(spec)
    assert (policy.threshold, policy.cooldown, policy.longest) == (7, 2500, 2500)
    assert (policy.retry_ratio, policy.retry_floor) == (0.2, 3)
    assert BreakerPolicy.of(ModelSpec(name="m", engine="echo")) == BreakerPolicy()


def test_cool_downs_double_and_are_bounded() -> None:
    waits = [cooldown(POLICY, streak) for streak in (0, 1, 2, 3, 4000)]
    assert waits == [0, 1000, 2000, 3000, 3000]


# -- a worker's own


def worn(times: int = 3) -> WorkersOwn:
    breaker = WorkersOwn()
    for _ in range(times):
        breaker.record(POLICY, 1, "a", "failure")
    return breaker


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 700, 1000, 2000]),
            st.sampled_from(
                ["begin", "reset", "success", "ignored", "collateral", "lost"] + ["failure"] * 5
            ),
            st.sampled_from(["", "a", "b"]),
        ),
        max_size=40,
    )
)
def test_a_workers_own_is_the_models_without_its_window(
    operations: list[tuple[int, str, str]],
) -> None:
    reference, own, now = Breaker(), WorkersOwn(), 1
    policy = replace(POLICY, volume=10**9)
    for pause, operation, holder in operations:
        now += pause
        if operation == "begin":
            assert own.wait(now) == reference.wait(now)
            for breaker in (own, reference):
                if breaker.wait(now) == 0:
                    breaker.begin(now, holder, 700)
        elif operation == "reset":
            own.reset(now)
            reference.reset(now)
        else:
            own.record(policy, now, holder, cast(Verdict, operation))
            reference.record(policy, now, holder, cast(Verdict, operation))
        assert own.status(now) == reference.status(now)


def test_a_workers_own_counts_failures_in_a_row_alone() -> None:
    breaker = WorkersOwn()
    for number in range(100):
        breaker.record(POLICY, number, "a", "failure" if number % 3 else "success")
    assert breaker.state is CLOSED
    assert worn(3).state is OPEN


# -- the reference and the script

TWIN = """--- include: lib/breaker
local now, op, holder = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local p, b = breaker().policy(ARGV[4]), breaker().load('m')
local wait = -1
if op == 'wait' then wait = breaker().wait(b, now)
elseif op == 'begin' then
  wait = breaker().wait(b, now)
  if wait == 0 then breaker().begin_probe(b, now, holder, 700) end
elseif op == 'renew' then breaker().renew_probe(b, now, holder, 700)
elseif op == 'reset' then breaker().reset(b, now)
else breaker().record(b, p, now, holder, op, ARGV[5], tonumber(ARGV[6])) end
breaker().save(b)
return {wait, redis.call('HGETALL', key.breaker('m'))}
"""


@pytest.fixture
def twin(store: JobStore, tmp_path: Path) -> Callable[..., Any]:
    """One operation on the machine in Lua: what it waits, and the fields of its hash."""
    (tmp_path / "twin.lua").write_text(TWIN, "utf-8")
    script = store.redis.register_script(whole_script(tmp_path / "twin.lua", store.keys.prefix))

    def call(*args: object) -> tuple[int, dict[bytes, bytes]]:
        wait, flat = script(args=args)
        return wait, dict(zip(flat[::2], flat[1::2], strict=True))

    call.forget = lambda: store.redis.delete(store.keys("breaker", MODEL))  # type: ignore[attr-defined]
    return call


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 200, 700, 1000, 2000, 9999]),
        st.sampled_from(
            ["wait", "begin", "renew", "reset", "success", "ignored", "collateral", "lost"]
            + ["failure"] * 7
        ),
        st.sampled_from(["", "a", "b"]),
        st.sampled_from(["w1", "w2"]),
        st.sampled_from([1, 1, 2]),
    ),
    max_size=40,
)


@settings(max_examples=examples(150))
@given(OPERATIONS, st.sampled_from([POLICY, replace(POLICY, threshold=50, volume=2, window=2000)]))
def _agree(
    twin: Callable[..., Any],
    operations: list[tuple[int, str, str, str, int]],
    policy: BreakerPolicy,
) -> None:
    twin.forget()  # type: ignore[attr-defined]
    ours, now = Breaker(), 1_700_000_000_000
    for pause, operation, holder, source, workers in operations:
        now += pause
        wait = -1
        match operation:
            case "wait":
                wait = ours.wait(now)
            case "begin":
                wait = ours.wait(now)
                if wait == 0:
                    ours.begin(now, holder, 700)
            case "renew":
                ours.renew(now, holder, 700)
            case "reset":
                ours.reset(now)
            case _:
                ours.record(policy, now, holder, cast(Verdict, operation), source, workers)
        told, fields = twin(now, operation, holder, policy.packed, source, workers)
        assert (told, Breaker.parse(fields)) == (wait, ours)
        assert WorkersOwn.parse(fields).status(now) == ours.status(now)


@pytest.mark.explores
def test_the_model_in_redis_does_what_the_reference_says(twin: Callable[..., Any]) -> None:
    _agree(twin)


# -- in the store

QUICK = BreakerPolicy(threshold=3, volume=1000)


def submit(store: JobStore, times: int = 1, **fields: Any) -> list[str]:
    jobs = [NewJob(new_job_id(), MODEL, "t", b"{}", **fields) for _ in range(times)]
    return [store.create(job, max_queued=1000).id for job in jobs]


def claimed(store: JobStore, room: int = 1) -> list[Claim]:
    return store.claim(MODEL, room, "w").claims


def fail(store: JobStore, claim: Claim, policy: BreakerPolicy = QUICK) -> tuple[str, str] | None:
    again = Requeue(claim.id, claim.attempt, "engine_error", verdict="failure")
    return store.commit([again], policy, "w").change


def break_it(store: JobStore) -> None:
    changes = [fail(store, claim) for claim in claimed(store, 3)]
    assert changes == [None, None, ("closed", "open")]


def pass_time(store: JobStore, field: str = "until") -> None:
    """The cool-down's end, or the probe's, is now."""
    store.redis.hset(store.keys("breaker", MODEL), field, "1")


def test_the_store_parks_jobs_while_open_and_hands_out_one_probe(store: JobStore) -> None:
    submit(store, 6)
    break_it(store)
    parked = store.claim(MODEL, 8, "w")
    assert (parked.claims, parked.waiting) == ([], 6)
    assert 0 < parked.pause <= 60

    pass_time(store)
    probe = store.claim(MODEL, 8, "w")
    assert len(probe.claims) == 1 and probe.change == ("open", "half_open")
    assert claimed(store, 8) == []
    won = Finish(probe.claims[0].id, probe.claims[0].attempt, JobState.SUCCEEDED, verdict="success")
    settled = store.commit([won], QUICK, "w")
    assert (settled.results, settled.change) == ([WriteResult.DONE], ("half_open", "closed"))
    assert len(claimed(store, 8)) == 5


def test_neither_repeated_nor_fenced_ends_are_counted(store: JobStore) -> None:
    submit(store)
    [claim] = claimed(store)
    ends = [Finish(claim.id, claim.attempt, JobState.SUCCEEDED, verdict="success")]
    assert store.commit(ends, QUICK, "w").results == [WriteResult.DONE]
    assert store.commit(ends, QUICK, "w").results == [WriteResult.DONE]
    stale = Requeue(claim.id, claim.attempt, "x", verdict="failure")
    assert store.commit([stale], QUICK, "w").results == [WriteResult.FENCED]
    breaker = store.status(MODEL).breaker
    assert (breaker.successes, breaker.failures) == (1, 0)


def test_a_heartbeat_keeps_the_probe(store: JobStore) -> None:
    store.lease = 0.5
    submit(store, 4)
    break_it(store)
    pass_time(store)
    [probe] = claimed(store)
    first = store.status(MODEL).breaker.wait
    store.lease = 60.0
    store.beat(MODEL, "w", b"{}", [(probe.id, probe.attempt)])
    assert first <= 500 < store.status(MODEL).breaker.wait


def test_a_lost_host_counts_once_however_often_it_is_told(store: JobStore) -> None:
    changes = [store.host_lost(MODEL, QUICK, "w") for _ in range(3)]
    assert changes == [None, None, ("closed", "open")]
    args = (MODEL, QUICK.packed, "w", "same token")
    for _ in range(2):
        store._scripts["breaker_lost"](args=args)
    assert store.status(MODEL).breaker.failures == 4


def test_a_reset_lets_everybody_in(store: JobStore) -> None:
    submit(store, 6)
    break_it(store)
    store.reset_breaker(MODEL)
    store.reset_breaker(MODEL)
    assert len(claimed(store, 8)) == 6
    assert store.status(MODEL).breaker.opened == 1


def test_retries_beyond_the_budget_wait_for_their_turn(store: JobStore) -> None:
    """Four at once, then one every 60 s / (4 + 0.5 * attempts)."""
    policy = BreakerPolicy(threshold=1000, volume=1000, retry_floor=4, retry_ratio=0.5)
    submit(store, 12)
    writes = [
        Requeue(claim.id, claim.attempt, "engine_error", 0.0, "failures", verdict="failure")
        for claim in claimed(store, 12)
    ]
    results = store.commit(writes, policy, "w").results
    assert (results.count(1), results.count(4)) == (4, 8)
    rows: Any = store.redis.zrange(store.keys("due", MODEL), 0, -1, withscores=True)
    due = [moment for _, moment in rows]
    assert len(due) == 8
    assert min(after - before for before, after in pairwise(due)) >= 60_000 / (4 + 12 * 0.5) - 2


def test_crashes_and_uncharged_returns_cost_no_budget(store: JobStore) -> None:
    policy = BreakerPolicy(threshold=1000, volume=1000, retry_floor=1, retry_ratio=0.0)
    submit(store, 8)
    claims = claimed(store, 8)
    writes = [Requeue(c.id, c.attempt, "x", 0.0, "crashes") for c in claims[:4]]
    writes += [Requeue(c.id, c.attempt, "breaker_open", verdict="failure") for c in claims[4:]]
    assert 4 not in store.commit(writes, policy, "w").results


# -- many processes


@pytest.fixture
def racers(redis_url: str, prefix: str) -> Iterator[Callable[[int], None]]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.shared.racer"])
    processes: list[Any] = []

    def start(rounds: int) -> None:
        args = (redis_url, prefix, MODEL, rounds)
        processes.extend(context.Process(target=race, args=args) for _ in range(8))
        for process in processes:
            process.start()

    yield start
    for process in processes:
        process.join(20)
        assert process.exitcode == 0


def test_eight_processes_of_sixteen_threads_get_one_probe(
    store: JobStore, prefix: str, racers: Callable[[int], None]
) -> None:
    def run(number: int) -> list[str]:
        eventually(lambda: store.redis.llen(f"{prefix}:here:{number}") == 8)
        store.redis.set(f"{prefix}:go:{number}", "1", ex=60)
        eventually(lambda: store.redis.llen(f"{prefix}:got:{number}") == 8)
        got = cast(list[bytes], store.redis.lrange(f"{prefix}:got:{number}", 0, -1))
        for name in ("here", "got"):
            store.redis.expire(f"{prefix}:{name}:{number}", 60)
        return b" ".join(got).decode().split()

    submit(store, 100)
    break_it(store)
    racers(3)
    pass_time(store)
    [dead] = run(0)
    pass_time(store, "probe_until")
    [probe] = run(1)
    assert probe != dead
    job_id, attempt = probe.split("/")
    won = Finish(job_id, int(attempt), JobState.SUCCEEDED, verdict="success")
    store.commit([won], QUICK, "racer")
    assert len(run(2)) == 98
