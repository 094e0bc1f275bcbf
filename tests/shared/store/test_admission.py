"""Who is let into a queue, what is said of the wait, and that one tenant's queue is not another's."""

import time
from concurrent.futures import ThreadPoolExecutor

from shared.domain.creation import Created, Outcome, Refused
from shared.domain.records import Claim, NewJob, Requeue, new_job_id
from shared.store.jobs import UNKNOWN_WAIT, JobStore
from tests.conftest import eventually

MODEL = "m"
BATCH = 32


def submit(
    store: JobStore,
    tenant: str = "t",
    *,
    max_queued: int = 100_000,
    tenant_max: int | None = None,
    **fields: object,
) -> Outcome:
    job = NewJob(new_job_id(), MODEL, tenant, b"{}", **fields)  # type: ignore[arg-type]
    return store.create(job, max_queued=max_queued, tenant_max=tenant_max)


def taken_in(store: JobStore, tenant: str = "t", **fields: object) -> bool:
    return isinstance(submit(store, tenant, **fields), Created)  # type: ignore[arg-type]


def refused(store: JobStore, tenant: str = "t", **fields: object) -> tuple[str, int]:
    """Why, and after how many seconds to come again."""
    outcome = submit(store, tenant, **fields)  # type: ignore[arg-type]
    assert isinstance(outcome, Refused), outcome
    assert outcome.to_error().problem.status == 503
    return outcome.to_error().code, outcome.retry_after


def claim(store: JobStore, room: int = 1) -> list[Claim]:
    return store.claim(MODEL, room, "w").claims


def now_ms(store: JobStore) -> int:
    seconds, micros = store.redis.time()  # type: ignore[misc]
    return int(seconds * 1000 + micros // 1000)


def measured(store: JobStore, jobs_per_second: float, seconds: float = 10.0) -> None:
    """Let the queue's drain look as if it had been measured for so long, up to now."""
    store.redis.hset(
        store.keys("queue", MODEL),
        mapping={
            "drained": jobs_per_second * seconds,
            "drain_ms": seconds * 1000,
            "drain_from": 0,
            "drain_seen": now_ms(store),
        },
    )
    store.redis.expire(store.keys("queue", MODEL), 60)


def test_a_tenant_with_thousands_of_jobs_delays_nobody_by_more_than_two_batches(
    store: JobStore,
) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: submit(store, "greedy"), range(2_000)))
    for _ in range(3):
        assert {held.tenant for held in claim(store, BATCH)} == {"greedy"}

    for _ in range(5):
        mine = submit(store, "modest").id
        assert store.get(mine).position == 0
        batches = [claim(store, BATCH), claim(store, BATCH)]
        assert mine in {held.id for batch in batches for held in batch}

    many = {submit(store, "modest").id for _ in range(BATCH)}
    served = [held.id for _ in range(2) for held in claim(store, BATCH)]
    assert many <= set(served), "of two batches one is the other tenant's share"


def test_tenants_share_the_work_and_not_the_number_of_jobs(store: JobStore) -> None:
    """Of a tenant with huge jobs and two with small ones none gets ahead by more than its largest job."""
    costs = {"huge": 4000, "small": 40, "tiny": 7}
    for _ in range(5):
        submit(store, "huge", cost=costs["huge"])
    for _ in range(400):
        submit(store, "small", cost=costs["small"])
        submit(store, "tiny", cost=costs["tiny"])

    served = dict.fromkeys(costs, 0)
    while store.status(MODEL).waiting > 2 * 400 - 150:
        for held in claim(store, 3):
            served[held.tenant] += costs[held.tenant]
            spread = max(served.values()) - min(served.values())
            assert spread <= costs["huge"] + costs["small"]
    assert min(served["small"], served["tiny"]) > 10 * costs["tiny"]


def test_a_huge_job_is_paid_for_even_when_the_lane_ran_empty_between(store: JobStore) -> None:
    submit(store, "huge", cost=1000)
    submit(store, "small", cost=10)
    first = {held.tenant for held in claim(store, 2)}
    assert first == {"huge", "small"}
    submit(store, "small", cost=10)
    later = submit(store, "huge", cost=1000).id
    for _ in range(50):
        submit(store, "small", cost=10)

    assert [held.tenant for held in claim(store, 50)] == ["small"] * 50
    assert later in {held.id for held in claim(store, 2)}, "and its turn comes"


def test_a_position_counts_turns_by_cost(store: JobStore) -> None:
    small = [submit(store, "small", cost=10).id for _ in range(30)]
    huge = [submit(store, "huge", cost=100).id for _ in range(3)]
    positions = {job: store.get(job).position for job in (*small, *huge)}

    order = [held.id for held in claim(store, 33)]

    for place, job in enumerate(order):
        known = positions[job]
        assert known is not None and abs(known - place) <= 1, "equal turns go either way"


def test_what_is_canceled_costs_nobody_anything(store: JobStore) -> None:
    kept = submit(store, "t", cost=10).id
    store.cancel(submit(store, "t", cost=10**9).id)
    field = "cost:normal:t"
    assert store.redis.hget(store.keys("queue", MODEL), field) == b"10"
    store.cancel(kept)
    assert store.redis.hget(store.keys("queue", MODEL), field) is None


def test_a_full_queue_says_when_there_is_room(store: JobStore) -> None:
    for _ in range(30):
        submit(store)
    assert refused(store, max_queued=10) == ("queue_full", UNKNOWN_WAIT)

    measured(store, jobs_per_second=2)
    known = refused(store, max_queued=10)

    assert known == ("queue_full", 11), "21 jobs have to go, two a second"


def test_a_tenant_has_a_bound_of_its_own(store: JobStore) -> None:
    for priority in ("high", "normal", "low"):
        submit(store, "greedy", priority=priority, tenant_max=3)
    submit(store, "other", tenant_max=3)
    measured(store, jobs_per_second=0.5, seconds=100)

    why = refused(store, "greedy", tenant_max=3)

    assert why == ("tenant_queue_full", 4), "every other job is of the other tenant"
    assert taken_in(store, "other", tenant_max=3)
    claim(store)
    assert taken_in(store, "greedy", tenant_max=3), "what runs does not wait"


def test_what_cannot_meet_its_deadline_is_refused_at_once(store: JobStore) -> None:
    for _ in range(100):
        submit(store)
    assert taken_in(store, expires_in=1), "while nothing is measured all are taken"
    measured(store, jobs_per_second=1)

    why = refused(store, expires_in=10)

    assert why == ("deadline_unreachable", 82), "102 s to its turn, and twice 10 s would do"
    assert taken_in(store, expires_in=60), "an estimate may be wrong by half"
    assert taken_in(store, expires_in=10, priority="high")
    assert taken_in(store, "another", expires_in=10)
    assert store.status(MODEL).waiting == 104


def test_a_measurement_grows_old(store: JobStore) -> None:
    for _ in range(100):
        submit(store)
    measured(store, jobs_per_second=1)
    store.redis.hset(store.keys("queue", MODEL), "drain_seen", now_ms(store) - 600_001)

    assert submit(store, expires_in=10).id


def test_a_job_that_nobody_is_before_says_when_it_may_start(store: JobStore) -> None:
    measured(store, jobs_per_second=2)
    before = now_ms(store)
    made = submit(store)
    assert made.position == 0 and made.start is not None
    assert 0 <= made.start - before - 500 <= now_ms(store) - before
    read = store.get(made.id).start
    assert read is not None and 0 <= read - made.start < 5000


def test_waiting_jobs_say_when_they_may_start(store: JobStore) -> None:
    ids = [submit(store).id for _ in range(3)]
    assert store.get(ids[0]).job().estimated_start is None
    measured(store, jobs_per_second=2)

    before = now_ms(store)
    record = store.get(ids[2])

    assert record.position == 2 and record.start is not None
    assert 0 <= record.start - before - 1500 <= now_ms(store) - before
    assert record.job().estimated_start is not None
    [held, *_] = claim(store, 3)
    assert store.get(held.id).job().estimated_start is None


def test_a_queue_where_nothing_moves_is_not_thought_to_drain(store: JobStore) -> None:
    last = [submit(store).id for _ in range(10)][-1]
    measured(store, jobs_per_second=10, seconds=10)
    now = now_ms(store)
    store.redis.hset(store.keys("queue", MODEL), "drain_from", now - 90_000)

    start = store.get(last).start

    assert start is not None and start - now >= 10_000, "100 jobs in 100 s, not in 10"


def test_the_drain_is_measured_while_jobs_wait(store: JobStore) -> None:
    for _ in range(400):
        submit(store)
    last = submit(store).id
    taken, began = [len(claim(store, 4))], now_ms(store)

    def estimated() -> bool:
        taken.append(len(claim(store, 4)))
        time.sleep(0.03)
        return store.get(last).start is not None

    eventually(estimated)

    ended, record = now_ms(store), store.get(last)
    rate = sum(taken[1:]) / (ended - began)
    assert record.start is not None and record.position is not None
    told = (record.position + 1) / (record.start - ended)
    assert rate / 2 < told < rate * 2


def test_an_idle_engine_is_not_measured(store: JobStore) -> None:
    for _ in range(20):
        submit(store)
        claim(store, 4)

    assert store.redis.hget(store.keys("queue", MODEL), "drain_ms") in (None, b"0.000000")


def test_the_error_of_an_estimate_is_told_once_at_the_start(store: JobStore) -> None:
    first = submit(store).id
    measured(store, jobs_per_second=0.5, seconds=100)
    second = submit(store).id

    claims = claim(store, 2)

    assert [held.id for held in claims] == [first, second]
    assert claims[0].estimate_error is None, "nobody was before it"
    late = claims[1].estimate_error
    assert late is not None and -4.0 <= late < 0, "it starts earlier than estimated"
    store.write([Requeue(second, 1, "test")])
    [again] = claim(store)
    assert again.id == second and again.estimate_error is None
