"""Leases that end, deadlines that pass, dead letters: what the rescuer does."""

import pytest

from shared.domain.creation import Replayed
from shared.domain.errors import JobNotFailed
from shared.domain.records import Finish, Requeue
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from tests.conftest import eventually
from tests.shared.store.jobs.jobs import MODEL, claim, short_leases, submit


def test_a_waiting_job_past_its_deadline_is_never_handed_out(store: JobStore) -> None:
    job_id = submit(store, expires_in=0.01).id
    deadline = int(store.get(job_id).fields["deadline"])
    eventually(lambda: store.redis.time()[0] * 1000 + store.redis.time()[1] / 1000 > deadline)
    assert claim(store) == []
    assert store.get(job_id).state is JobState.EXPIRED


def test_the_rescuer_ends_waiting_jobs_past_their_deadline(store: JobStore) -> None:
    job_id = submit(store, expires_in=0.001).id
    eventually(lambda: store.rescue(MODEL).expired or store.get(job_id).terminal)
    error = store.get(job_id).job().error
    assert error is not None and error.code == "job_expired"


def test_jobs_of_a_dead_worker_wait_again(store: JobStore) -> None:
    job_id = submit(store).id
    claim(short_leases(store))
    eventually(lambda: store.rescue(MODEL).requeued == 1)
    [held] = claim(store)
    assert (held.id, held.attempt, held.crashes) == (job_id, 2, 1)


def test_a_job_that_kills_its_workers_fails_after_three(store: JobStore) -> None:
    job_id = submit(store).id
    for _ in range(3):
        claim(short_leases(store))
        eventually(lambda: sum(vars_of(store.rescue(MODEL))[:2]) == 1)
    error = store.get(job_id).job().error
    assert error is not None and error.code == "worker_crashed"


def test_dead_letters_are_kept_and_tried_again_once(store: JobStore) -> None:
    job_id = submit(store, request=b'{"content":"r"}', metadata={"k": "v"}, priority="low").id
    claim(store)
    store.write([Finish(job_id, 1, JobState.FAILED, error=b'{"code":"engine_error"}', dead=True)])
    assert [r.id for r in store.dead("t")] == [job_id] and store.dead("other") == []
    first = store.retry(job_id, "t", max_queued=10)
    again = store.retry(job_id, "t", max_queued=10)
    [held] = claim(store, 5)
    assert again == Replayed(first.id) and first.id == held.id
    assert held.request == b'{"content":"r"}'
    record = store.get(first.id).job()
    assert record.metadata == {"k": "v", "retry_of": job_id}
    assert store.dead("t") == []
    with pytest.raises(JobNotFailed):
        store.retry(first.id, "t", max_queued=10)


def test_a_job_lost_to_crashes_is_a_dead_letter(store: JobStore) -> None:
    job_id = submit(store).id
    for _ in range(3):
        claim(short_leases(store))
        eventually(lambda: sum(vars_of(store.rescue(MODEL))[:2]) == 1)
    assert [r.id for r in store.dead("t")] == [job_id]


def vars_of(rescued: object) -> list[int]:
    return [getattr(rescued, name) for name in ("requeued", "failed", "due", "expired")]


def test_a_live_lease_is_never_stolen(store: JobStore) -> None:
    submit(store)
    claim(store)
    assert vars_of(store.rescue(MODEL)) == [0, 0, 0, 0]


def test_a_retry_waits_for_its_time(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    store.write([Requeue(job_id, 1, "engine_error", delay=0.2, charge="failures")])
    assert claim(store) == [] and store.status(MODEL).waiting == 0
    eventually(lambda: store.rescue(MODEL).due == 1)
    [held] = claim(store)
    assert (held.attempt, held.failures) == (2, 1)


def test_a_retry_that_waits_can_be_canceled(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    store.write([Requeue(job_id, 1, "engine_error", delay=0.01, charge="failures")])
    assert store.cancel(job_id) is JobState.CANCELED
    assert store.redis.zcard(store.keys("due", MODEL)) == 0


def test_one_rescuer_at_a_time(store: JobStore) -> None:
    assert store.lock_rescue("a", 5) and store.lock_rescue("a", 5)
    assert not store.lock_rescue("b", 5)


def test_a_running_job_past_its_deadline_that_nobody_has_a_lease_of_ends(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    store.redis.zrem(store.keys("leases", MODEL), job_id)
    store.redis.hset(store.keys("job", job_id), "deadline", 1)
    store.redis.zadd(store.keys("deadlines", MODEL), {job_id: 1})
    for _ in range(2):
        store.rescue(MODEL)
    assert store.get(job_id).state is JobState.EXPIRED
