"""Jobs as they are made: charges, keys of idempotency, bounds, one job for one call."""

import threading
import time
from typing import Any

import pytest

from shared.domain.creation import Created, Limited, Mismatched, Outcome, Reason, Refused, Replayed
from shared.domain.errors import JobNotFound, StoreUnavailable
from shared.domain.quotas import Charge, ClientCharges, Policy
from shared.domain.records import Finish, NewJob, new_job_id
from shared.domain.states import JobState
from shared.domain.write_results import WriteResult
from shared.redis.connection import connect
from shared.store.jobs import JobStore
from tests.conftest import RedisServer, eventually
from tests.shared.store.jobs.jobs import MODEL, ask, claim, submit

CHARGES = ClientCharges("key:k", (Charge(Policy("submit", 2, 60)),))
"""A job's client may make two a minute."""


def used(outcome: Outcome) -> list[int]:
    assert outcome.quota is not None
    return [status.used for status in outcome.quota.quota_status]


def test_a_job_whose_client_is_over_its_limit_is_not_made(store: JobStore) -> None:
    jobs = [NewJob(new_job_id(), MODEL, "t", b"{}") for _ in range(3)]
    outcomes = [store.create(job, max_queued=10, charges=CHARGES) for job in jobs]
    assert [type(one) for one in outcomes] == [Created, Created, Limited]
    assert [used(one) for one in outcomes] == [[1], [2], [2]]
    assert isinstance(outcomes[2], Limited) and outcomes[2].quota.refused is not None
    assert outcomes[2].quota.refused.policy.name == "submit"
    assert store.status(MODEL).waiting == 2
    with pytest.raises(JobNotFound):
        store.get(jobs[2].id)


def test_a_repeated_call_makes_no_second_job_and_charges_nothing(store: JobStore) -> None:
    job = NewJob(new_job_id(), MODEL, "t", b"{}")
    answers = [store.create(job, max_queued=10, charges=CHARGES) for _ in range(4)]
    assert {answer.id for answer in answers} == {job.id}
    assert [used(answer) for answer in answers] == [[1]] * 4
    assert store.status(MODEL).waiting == 1


def test_a_refusal_says_how_its_client_stands(store: JobStore) -> None:
    submit(store)
    job = NewJob(new_job_id(), MODEL, "t", b"{}")
    refused = store.create(job, max_queued=1, charges=CHARGES)
    assert isinstance(refused, Refused) and refused.reason is Reason.QUEUE_FULL
    assert used(refused) == [1]


@pytest.mark.parametrize(
    ("before", "joins", "joined"),
    [
        ("waits", 60.0, True),
        ("runs", 60.0, True),
        ("succeeded", 60.0, True),
        ("failed", 60.0, True),
        ("long ago", 0.001, False),
        ("unwanted", 60.0, False),
        ("canceled", 60.0, False),
        ("expired", 60.0, False),
        ("waits", 0.0, False),
    ],
)
def test_a_job_may_join_the_one_that_its_key_names(
    store: JobStore, before: str, joins: float, joined: bool
) -> None:
    named: dict[str, Any] = {"idempotency_key": "k", "body_digest": "b", "takes_key": True}
    first = submit(store, **named).id
    if before != "waits":
        claim(store)
    if before == "unwanted":
        store.cancel(first)
    elif before not in ("waits", "runs"):
        state = JobState.SUCCEEDED if before == "long ago" else JobState(before)
        store.write([Finish(first, 1, state)])
    if before == "long ago":
        store.redis.hincrby(store.keys("job", first), "finished", -1000)

    outcome = ask(store, **named, joins=joins)

    assert isinstance(outcome, Replayed if joined else Created)
    assert (outcome.id == first) is joined
    assert ask(store, **named, joins=60.0).id == outcome.id


def test_what_was_asked_in_a_dialect_goes_with_its_job(store: JobStore) -> None:
    job_id, plain = submit(store, asked=b'{"input":"x"}').id, submit(store).id
    name = store.keys("asked", job_id)
    assert store.redis.ttl(name) == store.redis.ttl(store.keys("job", job_id))
    claim(store, room=2)
    store.write([Finish(job_id, 1, JobState.SUCCEEDED)])

    record, asked = store.asked(job_id, "t")

    assert (record.state, asked) == (JobState.SUCCEEDED, b'{"input":"x"}')
    assert 0 < store.redis.ttl(name) <= store.retention
    for unknown, tenant in ((plain, "t"), (job_id, "other")):
        with pytest.raises(JobNotFound):
            store.asked(unknown, tenant)
    store.delete(job_id, "t")
    assert not store.redis.exists(name)


def test_create_with_the_same_id_makes_one_job(store: JobStore) -> None:
    job = NewJob(new_job_id(), MODEL, "t", b"{}")
    first = store.create(job, max_queued=10)
    again = store.create(job, max_queued=10)
    assert again.created_ms == first.created_ms and not again.ring
    assert store.status(MODEL).waiting == 1


def test_idempotency_keys(store: JobStore) -> None:
    first = submit(store, idempotency_key="k", body_digest="a")
    assert ask(store, idempotency_key="k", body_digest="a") == Replayed(first.id)
    assert submit(store, "u", idempotency_key="k", body_digest="b").id != first.id
    mismatched = ask(store, idempotency_key="k", body_digest="c")
    assert mismatched == Mismatched(first.id)
    assert mismatched.to_error().code == "idempotency_mismatch"


def test_one_idempotency_key_at_once_makes_one_job(store: JobStore) -> None:
    made: list[Outcome] = []
    threads = [
        threading.Thread(
            target=lambda: made.append(ask(store, idempotency_key="k", body_digest="a"))
        )
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({m.id for m in made}) == 1 and sum(isinstance(m, Created) for m in made) == 1


def test_the_queue_is_bounded(store: JobStore) -> None:
    submit(store, max_queued=1)
    refused = ask(store, max_queued=1)
    assert isinstance(refused, Refused) and refused.to_error().code == "queue_full"


def test_a_full_redis_takes_nothing_and_loses_nothing(own_redis: RedisServer) -> None:
    store = JobStore(connect(own_redis.url, 2.0), "p", retention=60)
    job_id = submit(store).id
    store.redis.config_set("maxmemory", "1mb")
    with pytest.raises(StoreUnavailable):
        store.redis.config_set("maxmemory", "100kb")
        store._memory._looked = time.monotonic()
        submit(store, request=b"x" * 1_000_000)
    store.redis.config_set("maxmemory", "0")
    assert [c.id for c in claim(store, 5)] == [job_id]


def test_new_jobs_stop_before_memory_does_and_running_ones_finish(own_redis: RedisServer) -> None:
    redis = connect(own_redis.url, 2.0)
    store = JobStore(redis, "p", retention=60)
    held = submit(store).id
    claim(store)
    redis.setrange("ballast", 50_000_000, b"x")
    redis.config_set("maxmemory", int(redis.info("memory")["used_memory"] / 0.93))
    fresh = JobStore(redis, "p", retention=60)
    with pytest.raises(StoreUnavailable, match="nearly full"):
        submit(fresh)
    assert fresh.write([Finish(held, 1, JobState.SUCCEEDED, b"1")]) == [WriteResult.DONE]
    redis.config_set("maxmemory", 0)
    eventually(lambda: submitted(fresh))


def submitted(store: JobStore) -> bool:
    try:
        return bool(submit(store).id)
    except StoreUnavailable:
        return False
