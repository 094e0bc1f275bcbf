"""The job store against a real Redis: every transition, its fence, and what a repeated call does."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.domain.creation import Created, Limited, Mismatched, Outcome, Reason, Refused, Replayed
from shared.domain.errors import (
    InputGone,
    InvalidRequest,
    JobNotFailed,
    JobNotFound,
    JobNotTerminal,
    StoreUnavailable,
)
from shared.domain.events import Prefix
from shared.domain.quotas import Charge, ClientCharges, Policy
from shared.domain.records import (
    Append,
    Claim,
    Finish,
    LeaseResult,
    NewJob,
    Requeue,
    WriteResult,
    new_job_id,
)
from shared.domain.states import JobState
from shared.redis.connection import connect
from shared.store.events import START, EventLog
from shared.store.jobs import CLAIM_VALUES, JobStore
from tests.conftest import RedisServer, eventually

MODEL = "m"


def ask(store: JobStore, tenant: str = "t", **fields: object) -> Outcome:
    limit = int(str(fields.pop("max_queued", 100_000)))
    fields.setdefault("request", b'{"content":"x"}')
    job = NewJob(id=new_job_id(), model=MODEL, tenant=tenant, **fields)  # type: ignore[arg-type]
    return store.create(job, max_queued=limit)


def submit(store: JobStore, tenant: str = "t", **fields: object) -> Created:
    outcome = ask(store, tenant, **fields)
    assert isinstance(outcome, Created), outcome
    return outcome


def claim(store: JobStore, room: int = 1, worker: str = "w") -> list[Claim]:
    return store.claim(MODEL, room, worker).claims


def kinds(store: JobStore, job_id: str) -> list[tuple[str, str]]:
    return [(str(event.id), event.kind) for event in EventLog(store.redis, store.keys).read(job_id)]


def test_a_job_runs_and_succeeds(store: JobStore) -> None:
    job_id = submit(store, metadata={"k": "v"}).id
    [held] = claim(store)
    results = store.write(
        [
            Append(job_id, 1, 1, "token", b'{"text":"a","index":0}', "7"),
            Finish(job_id, 1, JobState.SUCCEEDED, b'{"text":"a"}', b"", b'{"attempts":1}'),
        ]
    )
    job = store.get(job_id).job()
    assert held.id == job_id and held.attempt == 1
    assert results == [WriteResult.DONE] * 2
    assert (job.status, job.output, job.metadata) == ("succeeded", {"text": "a"}, {"k": "v"})
    assert job.usage is not None and job.usage.attempts == 1
    assert kinds(store, job_id) == [
        ("0-1", "status"),
        ("1-0", "status"),
        ("1-1", "token"),
        ("1-2", "done"),
    ]


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


def test_the_first_event_is_the_same_before_and_after_others(store: JobStore) -> None:
    job_id, log = submit(store).id, EventLog(store.redis, store.keys)
    told = log.read(job_id)
    assert [str(event.id) for event in told] == ["0-1"] and log.exists(job_id)
    assert log.read(job_id, told[0].id) == []
    assert store.redis.exists(store.keys("log", job_id)) == 0, "a stream of one entry takes 4.7 KB"

    claim(store)
    now = log.read(job_id)
    assert now[0].frame == told[0].frame and len(now) == 2
    lives = [store.redis.ttl(store.keys(kind, job_id)) for kind in ("job", "request", "log")]
    assert max(lives) - min(lives) <= 1, lives


def test_a_log_read_in_pages_has_the_first_event_once(store: JobStore) -> None:
    job_id, log = submit(store).id, EventLog(store.redis, store.keys)
    claim(store)
    store.write([Append(job_id, 1, seq, "token", b"{}") for seq in range(1, 6)])
    seen, cursor = [], START
    while page := log.read(job_id, cursor, count=2):
        seen += [str(event.id) for event in page]
        cursor = page[-1].id
    assert seen == ["0-1", "1-0", "1-1", "1-2", "1-3", "1-4", "1-5"]


def test_the_keys_that_jobs_share_outlive_a_queue_that_never_empties(store: JobStore) -> None:
    submit(store)
    shared = [store.keys("queue", MODEL), store.keys("deadlines", MODEL), store.keys("models")]

    def shortest() -> int:
        return min(store.redis.ttl(key) for key in shared)

    longest = shortest()
    for key in shared:
        store.redis.expire(key, longest // 4)
    submit(store)
    assert shortest() == longest // 4, "they were renewed a moment ago"
    store.redis.hincrby(store.keys("queue", MODEL), "renewed", -3_600_001)
    submit(store)
    assert shortest() >= longest - 1


def test_the_events_of_a_job_are_gone_with_its_log_or_record(store: JobStore) -> None:
    waits, ran, log = submit(store).id, submit(store).id, EventLog(store.redis, store.keys)
    store.cancel(ran)
    store.redis.delete(store.keys("job", waits), store.keys("log", ran))
    assert not log.exists(waits) and not log.exists(ran)
    assert log.read(waits) == log.read(ran) == []


@pytest.mark.parametrize("dead", [False, True], ids=["at fault", "dead letter"])
@pytest.mark.parametrize("state", ["succeeded", "failed", "canceled", "expired"])
def test_the_request_of_a_job_is_kept_only_where_it_was_not_at_fault(
    store: JobStore, state: str, dead: bool
) -> None:
    job_id = submit(store).id
    [held] = claim(store)
    assert held.request == b'{"content":"x"}'
    dead = dead and state == "failed"
    store.write([Finish(job_id, 1, JobState(state), dead=dead)])
    assert bool(store.redis.exists(store.keys("request", job_id))) is dead


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


def test_a_job_whose_input_was_at_fault_cannot_be_tried_again(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    store.write([Finish(job_id, 1, JobState.FAILED, error=b'{"code":"invalid_input"}')])
    with pytest.raises(InputGone):
        store.retry(job_id, "t", max_queued=10)
    assert store.get(job_id).state is JobState.FAILED, "its record and its error stay"


def test_every_write_may_be_repeated(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    append = Append(job_id, 1, 1, "token", b"{}")
    finish = Finish(job_id, 1, JobState.SUCCEEDED, b"1")
    assert store.write([append, append, finish, finish]) == [WriteResult.DONE] * 4
    assert [kind for _, kind in kinds(store, job_id)].count("done") == 1


def test_create_with_the_same_id_makes_one_job(store: JobStore) -> None:
    job = NewJob(new_job_id(), MODEL, "t", b"{}")
    first = store.create(job, max_queued=10)
    again = store.create(job, max_queued=10)
    assert again.created_ms == first.created_ms and not again.ring
    assert store.status(MODEL).waiting == 1


def test_of_two_workers_with_the_same_attempt_the_one_goes_on_that_redis_knows(
    store: JobStore,
) -> None:
    """Redis has forgotten the first one's claim, and handed the attempt out anew."""
    job_id = submit(store).id
    claim(store, worker="now")
    end = Finish(job_id, 1, JobState.SUCCEEDED, b'{"text":"a"}', seq=1)
    assert store.commit([end], None, "before").results == [WriteResult.FENCED]
    assert store.commit([end], None, "now").results == [WriteResult.DONE]


def test_an_end_is_refused_where_an_event_before_it_is_missing(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    for end in (
        Finish(job_id, 1, JobState.SUCCEEDED, b'{"text":"a"}', seq=2),
        Requeue(job_id, 1, "worker_stopping", seq=2),
    ):
        assert store.write([end]) == [WriteResult.MISSING_EVENT]
    text = Append(job_id, 1, 1, "token", b'{"text":"a","index":0}')
    end = Finish(job_id, 1, JobState.SUCCEEDED, b'{"text":"a"}', seq=2)
    assert store.write([text, end]) == [WriteResult.DONE] * 2


def test_a_stale_attempt_is_fenced_everywhere(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    store.write([Requeue(job_id, 1, "test")])
    claim(store)
    stale = [
        Append(job_id, 1, 9, "token", b"{}"),
        Finish(job_id, 1, JobState.FAILED),
        Requeue(job_id, 1, "late"),
    ]
    assert store.write(stale) == [WriteResult.FENCED] * 3
    assert store.beat(MODEL, "w", b"{}", [(job_id, 1), (job_id, 2)]).results == [
        LeaseResult.LOST,
        LeaseResult.RENEWED,
    ]
    assert store.get(job_id).state is JobState.RUNNING


def test_an_append_that_skips_an_event_is_refused(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    assert store.write([Append(job_id, 1, 2, "token", b"{}")]) == [WriteResult.MISSING_EVENT]


def test_two_outcomes_race_and_one_wins(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    assert store.write([Finish(job_id, 1, JobState.CANCELED)]) == [WriteResult.DONE]
    assert store.write([Finish(job_id, 1, JobState.SUCCEEDED)]) == [WriteResult.FENCED]
    assert store.get(job_id).state is JobState.CANCELED


def test_classes_come_first_then_age(store: JobStore) -> None:
    ids = [submit(store, priority=p).id for p in ("low", "normal", "high", "normal", "high")]
    assert [c.id for c in claim(store, 5)] == [ids[2], ids[4], ids[1], ids[3], ids[0]]


def test_tenants_take_turns(store: JobStore) -> None:
    for _ in range(20):
        submit(store, "greedy")
    for _ in range(3):
        submit(store, "modest")
    order = [c.tenant for c in claim(store, 8)]
    assert order.count("modest") == 3
    assert set(order[:2]) == {"greedy", "modest"}


def test_a_tenant_that_comes_one_by_one_starves_nobody(store: JobStore) -> None:
    for _ in range(20):
        submit(store, "backlog")
    served = []
    for _ in range(20):
        submit(store, "trickle")
        served += [c.tenant for c in claim(store, 2)]
    assert min(Counter(served).values()) >= 15


def test_a_job_given_back_stands_at_the_front(store: JobStore) -> None:
    first, _ = submit(store).id, submit(store).id
    claim(store)
    store.write([Requeue(first, 1, "test")])
    assert claim(store)[0].id == first


def test_positions_count_what_goes_before(store: JobStore) -> None:
    ids = [submit(store).id for _ in range(3)]
    high = submit(store, priority="high").id
    assert [store.get(i).position for i in [high, *ids]] == [0, 1, 2, 3]


def test_claims_repeat_after_a_lost_answer(store: JobStore) -> None:
    ids = {submit(store).id for _ in range(4)}
    script = store._scripts["claim"]
    args = (MODEL, 4, 2**53, "w", "", 1000, 5000, 60, "token")
    first, again = script(args=args), script(args=args)
    assert {name.decode() for name in first[5::CLAIM_VALUES]} == ids
    assert first[5:] == again[5:]


def test_no_job_is_handed_out_twice(store: JobStore) -> None:
    for _ in range(200):
        submit(store)
    taken: list[str] = []

    def work() -> None:
        while got := claim(store, 7):
            taken.extend(c.id for c in got)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 200


def test_a_waiting_job_is_canceled_at_once(store: JobStore) -> None:
    job_id = submit(store).id
    assert store.cancel(job_id, "t") is JobState.CANCELED
    assert store.cancel(job_id, "t") is JobState.CANCELED
    assert claim(store) == [] and store.status(MODEL).waiting == 0


def test_a_running_job_is_canceled_by_its_worker(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    assert store.cancel(job_id, "t") is JobState.RUNNING
    assert store.get(job_id).job().cancel_requested
    assert store.write([Append(job_id, 1, 1, "token", b"{}")]) == [WriteResult.CANCEL_REQUESTED]
    assert store.beat(MODEL, "w", b"{}", [(job_id, 1)]).results == [LeaseResult.CANCEL_REQUESTED]


def test_another_tenants_job_does_not_exist(store: JobStore) -> None:
    job_id = submit(store, "mine").id
    for call in (store.get, store.cancel, store.delete):
        with pytest.raises(JobNotFound):
            call(job_id, "yours")
    with pytest.raises(JobNotFound):
        store.get("job_'; drop", "mine")


def test_delete_forgets_terminal_jobs_only(store: JobStore) -> None:
    job_id = submit(store).id
    with pytest.raises(JobNotTerminal):
        store.delete(job_id, "t")
    store.cancel(job_id)
    store.delete(job_id, "t")
    with pytest.raises(JobNotFound):
        store.get(job_id)
    assert store.listing("t") == ([], None)


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


def test_listing_pages_newest_first(store: JobStore) -> None:
    ids = [submit(store).id for _ in range(5)]
    store.cancel(ids[2])
    submit(store, "other")
    page, cursor = store.listing("t", limit=2)
    rest, end = store.listing("t", limit=10, cursor=cursor)
    assert [r.id for r in page + rest] == sorted(ids, reverse=True)
    assert end is None
    assert [r.id for r in store.listing("t", state=JobState.CANCELED)[0]] == [ids[2]]
    assert store.listing("t", model="nope") == ([], None)
    with pytest.raises(InvalidRequest):
        store.listing("t", cursor="nonsense")


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


def short_leases(store: JobStore) -> JobStore:
    return JobStore(store.redis, store.keys.prefix, retention=60, lease=0.001)


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


def test_streamed_text_is_read_back_since_the_last_reset(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    store.write(
        [
            Append(job_id, 1, 1, "token", json.dumps({"text": "old", "index": 0}).encode(), "1"),
            Append(job_id, 1, 2, "reset", b'{"attempt":1}'),
            Append(job_id, 1, 3, "token", json.dumps({"text": "né", "index": 0}).encode(), "2,3"),
            Append(job_id, 1, 4, "token", json.dumps({"text": "w", "index": 2}).encode(), "4"),
        ]
    )
    assert store.streamed(job_id) == ("néw", (2, 3, 4), False, (), "")


def test_texts_of_one_job_are_read_back_apart(store: JobStore) -> None:
    job_id = submit(store).id
    claim(store)
    said = [("a", 0, "1"), ("x", 2, "7"), ("b", 0, "2,3"), ("y", 2, "8")]
    store.write(
        [
            Append(
                job_id,
                1,
                seq,
                "token",
                json.dumps({"text": text, "index": 0} | ({"choice": n} if n else {})).encode(),
                tokens,
            )
            for seq, (text, n, tokens) in enumerate(said, 1)
        ]
    )
    further = (Prefix(), Prefix("xy", (7, 8)))
    assert store.streamed(job_id) == ("ab", (1, 2, 3), False, further, "")


def test_the_first_job_rings_and_the_next_do_not(store: JobStore) -> None:
    assert [submit(store).ring for _ in range(3)] == [True, False, False]


@pytest.fixture
def roused(store: JobStore) -> Iterator[Callable[[], list[str]]]:
    """Which of the workers w1, w2 and w3 were called since the last look; the others are gone."""
    with store.redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        names = {store.keys("rouse", worker).encode(): worker for worker in ("w1", "w2", "w3")}
        pubsub.subscribe(*names)
        for channel in names:
            eventually(lambda channel=channel: store.redis.pubsub_numsub(channel)[0][1])

        def look() -> list[str]:
            heard: list[str] = []
            pubsub.ping()
            while True:
                message = pubsub.get_message(timeout=5)
                if message is None:
                    continue
                if message["type"] == "pong":
                    return heard
                heard.append(names[message["channel"]])

        yield look


def waits(store: JobStore, worker: str, room: int = 4) -> None:
    """A drain at `worker` looks for jobs."""
    store.claim(MODEL, room, worker, drain=f"{worker}/d")


def test_a_job_calls_the_drain_that_has_waited_longest(
    store: JobStore, roused: Callable[[], list[str]]
) -> None:
    for worker in ("w2", "w1", "w3"):
        waits(store, worker)
        time.sleep(0.002)  # Who waited longer is told by the clock.
    assert not submit(store).ring
    assert roused() == ["w2"]
    for _ in range(3):
        submit(store)
    assert roused() == ["w1", "w3"]
    waits(store, "w1")
    submit(store)
    assert roused() == ["w1"]


def test_a_called_drain_that_leaves_calls_the_next(
    store: JobStore, roused: Callable[[], list[str]]
) -> None:
    for worker in ("w1", "w2"):
        waits(store, worker)
        time.sleep(0.002)
    submit(store)
    assert roused() == ["w1"]
    assert store.sign_off(MODEL, "w1", "w1/d", force=True) == (True, False)
    assert roused() == ["w2"]


def test_who_does_not_hear_is_passed_over(store: JobStore, roused: Callable[[], list[str]]) -> None:
    for worker in ("gone", "w1"):
        waits(store, worker)
        time.sleep(0.002)
    submit(store)
    assert roused() == ["w1"]


def test_a_full_drain_is_called_last_and_calls_one_with_room(
    store: JobStore, roused: Callable[[], list[str]]
) -> None:
    waits(store, "w1", room=0)
    time.sleep(0.002)
    waits(store, "w2")
    waits(store, "w3")
    submit(store)
    submit(store)
    assert sorted(roused()) == ["w2", "w3"]
    submit(store)
    assert roused() == ["w1"]
    claim(store, 8)
    waits(store, "w2")
    waits(store, "w3", room=0)
    submit(store)
    assert roused() == ["w2"]
    waits(store, "w2", room=0)
    assert roused() == [], "who is full as well is of no help"


def test_a_drain_that_can_take_no_more_calls_the_next(
    store: JobStore, roused: Callable[[], list[str]]
) -> None:
    for worker in ("w1", "w2"):
        waits(store, worker)
        time.sleep(0.002)
    submit(store)
    assert roused() == ["w1"]
    waits(store, "w1", room=0)
    assert roused() == ["w2"]


def test_who_has_signed_off_is_not_called(store: JobStore, roused: Callable[[], list[str]]) -> None:
    for worker in ("w1", "w2"):
        waits(store, worker)
        time.sleep(0.002)
    assert store.sign_off(MODEL, "w1", "w1/d") == (True, False)
    submit(store)
    assert roused() == ["w2"]


def test_a_drain_leaves_only_an_empty_queue(store: JobStore) -> None:
    store.claim(MODEL, 1, "w", drain="d")
    submit(store)
    assert store.sign_off(MODEL, "w", "d") == (False, False)
    claim(store)
    assert store.sign_off(MODEL, "w", "d") == (True, False)
    assert submit(store).ring


def test_a_full_drain_rings_for_an_idle_worker(store: JobStore) -> None:
    """However few jobs wait: no drain at work can take them."""
    for worker in ("w1", "w2"):
        store.beat(MODEL, worker, b"{}", [])
    for _ in range(3):
        submit(store)
    assert store.claim(MODEL, 2, "w1", drain="d").ring
    assert not store.claim(MODEL, 0, "w1", drain="d").ring, "one ring is on its way"
    assert not store.claim(MODEL, 1, "w2", drain="e").ring, "nothing is left"
    submit(store)
    assert not store.claim(MODEL, 0, "w1", drain="d").ring, "every worker is at work"


def test_a_drain_that_is_full_when_a_job_comes_rings(store: JobStore) -> None:
    for worker in ("w1", "w2"):
        store.beat(MODEL, worker, b"{}", [])
    assert not store.claim(MODEL, 0, "w1", drain="d").ring, "nobody waits"
    assert not submit(store).ring
    claimed = store.claim(MODEL, 0, "w1", drain="d")
    assert (claimed.claims, claimed.ring) == ([], True)


def test_a_drain_with_room_left_rings_for_nobody(store: JobStore) -> None:
    for worker in ("w1", "w2"):
        store.beat(MODEL, worker, b"{}", [])
    submit(store)
    assert not store.claim(MODEL, 5, "w1", drain="d").ring


def test_status_counts_live_workers_only(store: JobStore) -> None:
    store.beat(MODEL, "live", b'{"state":"ready"}', [])
    short_leases(store).beat(MODEL, "dead", b"{}", [])
    eventually(lambda: list(store.status(MODEL).workers) == ["live"])
    store.beat(MODEL, "live", b"", [])
    assert store.status(MODEL).workers == {}


def test_one_rescuer_at_a_time(store: JobStore) -> None:
    assert store.lock_rescue("a", 5) and store.lock_rescue("a", 5)
    assert not store.lock_rescue("b", 5)


def test_after_retention_nothing_of_a_job_is_left(store: JobStore) -> None:
    brief = JobStore(store.redis, store.keys.prefix, retention=1, lease=5.0)
    job_id = submit(brief).id
    brief.cancel(job_id)
    keys = [brief.keys(kind, job_id) for kind in ("job", "request", "log")]
    eventually(lambda: store.redis.exists(*keys) == 0)
    assert store.listing("t") == ([], None)


def test_scripts_survive_a_flush_and_redis_away_is_said_so(own_redis: RedisServer) -> None:
    store = JobStore(connect(own_redis.url, 0.5), "p", retention=60)
    # By default the last seconds may be lost with the server, where the disk is slow.
    store.redis.config_set("appendfsync", "always")
    job_id = submit(store).id
    claim(store)
    store.redis.script_flush()
    assert store.write([Append(job_id, 1, 1, "token", b"{}")]) == [WriteResult.DONE]
    own_redis.stop()
    with pytest.raises(StoreUnavailable):
        store.get(job_id)
    with pytest.raises(StoreUnavailable):
        store.write([Append(job_id, 1, 2, "token", b"{}")])
    own_redis.start()
    eventually(lambda: store.get(job_id).state is JobState.RUNNING)


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
