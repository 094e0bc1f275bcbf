"""A job at which a script fails, such as one whose log is no stream, harms no other that one call meets."""

import pytest
from redis.exceptions import ResponseError

from shared.domain.creation import Created
from shared.domain.records import Append, Claim, Finish, Requeue, Write
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from tests.shared.store.jobs.jobs import MODEL, claim, kinds, short_leases, submit
from workers.execution.refused import Refusal, Writer

DONE = JobState.SUCCEEDED


def of_three(store: JobStore) -> list[Created]:
    """Jobs of three tenants, which one call meets in this order."""
    return [submit(store, tenant) for tenant in ("a", "b", "c")]


def break_log(store: JobStore, job: Created) -> None:
    store.redis.delete(store.keys("log", job.id))
    store.redis.set(store.keys("log", job.id), "no stream", ex=60)


def mend_log(store: JobStore, job: Created) -> None:
    store.redis.delete(store.keys("log", job.id))
    store.redis.xadd(store.keys("log", job.id), {"e": "status", "d": "{}"}, id="0-2")
    store.redis.expire(store.keys("log", job.id), 60)


def due_now(store: JobStore, kind: str, job: Created) -> None:
    store.redis.zadd(store.keys(kind, MODEL), {job.id: 1})


def broken_and_others(store: JobStore) -> tuple[Created, list[Created]]:
    first, broken, last = of_three(store)
    return broken, [first, last]


def token(held: Claim, seq: int) -> Append:
    return Append(held.id, held.attempt, seq, "token", b'{"text":"x"}')


def test_events_and_ends_of_others_are_written_and_can_be_written_again(store: JobStore) -> None:
    broken, others = broken_and_others(store)
    held = claim(store, 3)
    break_log(store, broken)
    said: list[Write] = [token(one, seq) for seq in (1, 2) for one in held]
    ends: list[Write] = [Finish(one.id, one.attempt, DONE, b'"x"') for one in held]
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.write(said)
    writer = Writer(store.write)
    for writes in (said, ends):
        became = writer.write(writes)
        refused = {
            write.id
            for write, one in zip(writes, became, strict=True)
            if isinstance(one, Refusal) or one < 1
        }
        assert refused == {broken.id}
    for job in others:
        assert store.get(job.id).state is DONE
        events = [("1-1", "token"), ("1-2", "token"), ("1-3", "done")]
        assert kinds(store, job.id)[2:] == events
    record = store.get(broken.id)
    assert record.state is JobState.RUNNING and record.head == "1-0"
    assert store.redis.exists(store.keys("request", broken.id)), "another attempt may need it"


def test_a_job_that_breaks_at_its_end_keeps_its_lease(store: JobStore) -> None:
    broken, _ = broken_and_others(store)
    held = claim(store, 3)
    break_log(store, broken)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.write([Requeue(one.id, one.attempt, "broke", 0.0, "") for one in held])
    assert store.status(MODEL).waiting == 2
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.write([Finish(broken.id, 1, DONE, b'"x"')])
    assert store.redis.zrange(store.keys("leases", MODEL), 0, -1) == [broken.id.encode()]


def test_others_are_claimed_and_the_job_again_after_a_while(store: JobStore) -> None:
    broken, others = broken_and_others(store)
    break_log(store, broken)
    held = claim(store, 3)
    assert [one.id for one in held] == [job.id for job in others]
    assert store.redis.zcard(store.keys("leases", MODEL)) == 2
    due_now(store, "due", broken)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        claim(store, 3)
    due_now(store, "due", broken)
    mend_log(store, broken)
    assert [one.id for one in claim(store, 3)] == [broken.id]
    assert store.status(MODEL).waiting == 0


def test_others_are_rescued_and_the_job_again_after_a_while(store: JobStore) -> None:
    brief = short_leases(store)
    broken, others = broken_and_others(brief)
    claim(brief, 3)
    break_log(store, broken)
    for job in (broken, *others):
        due_now(store, "leases", job)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.rescue(MODEL)
    assert store.status(MODEL).waiting == 2
    assert store.rescue(MODEL).requeued == 0, "the broken one does not stop each round"
    due_now(store, "leases", broken)
    mend_log(store, broken)
    assert store.rescue(MODEL).requeued == 1
    assert len(claim(store, 3)) == 3


def test_others_expire_beside_it(store: JobStore) -> None:
    broken, others = broken_and_others(store)
    break_log(store, broken)
    for job in (broken, *others):
        due_now(store, "deadlines", job)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        store.rescue(MODEL)
    assert {store.get(job.id).state for job in others} == {JobState.EXPIRED}
