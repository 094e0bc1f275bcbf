"""The outbox on a real Redis: written with the job, claimed with a lease, recorded under a fence."""

import json
from collections import Counter

import pytest

from shared.domain.errors import JobNotFound
from shared.domain.records import Finish, NewJob, Requeue, delivery_ids, new_job_id
from shared.domain.states import JobState
from shared.store.jobs import JobStore
from shared.webhooks.outbox import BacklogFull, Message, Outbox, Recorded, Subscription
from shared.webhooks.schedule import Schedule, Sent
from shared.webhooks.urls import parse_target
from tests.conftest import eventually

MODEL = "m"
LEASE = 30.0
ERROR = b'{"code":"engine_error","message":"no","retryable":true}'
DELIVERED = Recorded("delivered", status=204, well=True)


@pytest.fixture
def outbox(store: JobStore) -> Outbox:
    return Outbox(store)


def submit(
    store: JobStore,
    *events: str,
    url: str = "https://receiver.example/hook",
    tenant: str = "t",
    **fields: object,
) -> str:
    webhook = Subscription(
        parse_target(url),
        events or ("started", "completed"),  # type: ignore[arg-type]
        "http://api:8080",
    )
    fields = {"request": b"{}", "webhook": str(webhook), **fields}
    job = NewJob(id=new_job_id(), model=MODEL, tenant=tenant, **fields)  # type: ignore[arg-type]
    return store.create(job, max_queued=10**6).id


def run(store: JobStore, output: bytes = b'{"text":"a"}') -> str:
    [claim] = store.claim(MODEL, 1, "w").claims
    store.write([Finish(claim.id, claim.attempt, JobState.SUCCEEDED, output)])
    return claim.id


def completed(store: JobStore, count: int = 1, **fields: object) -> list[str]:
    ids = []
    for _ in range(count):
        submit(store, "completed", **fields)  # type: ignore[arg-type]
        ids.append(run(store))
    return ids


def delivery_ids_of(jobs: list[str]) -> list[str]:
    return [delivery_ids(job_id)[1] for job_id in jobs]


def claim(outbox: Outbox, room: int = 100, lease: float = LEASE) -> list[Message]:
    return outbox.claim(room, lease)


def waiting(outbox: Outbox) -> bool:
    return outbox.ring_wanted(10**6)


def look_now(store: JobStore, to: str) -> None:
    tenant = to.partition(" ")[0]
    store.redis.zadd(store.keys("receivers", tenant), {to: 0})
    store.redis.zadd(store.keys("tellers"), {tenant: 0})


def due_now(store: JobStore, message: Message) -> None:
    """Let the time of a retry come."""
    store.redis.zadd(store.keys("outbox", message.to), {message.id: 0})
    look_now(store, message.to)


def shut_is_over(store: JobStore, to: str) -> None:
    """Let the time of an open circuit pass."""
    store.redis.hset(store.keys("receiver", to), "open_until", 0)
    look_now(store, to)


def test_a_start_and_an_end_are_told_with_the_job_as_it_was(
    store: JobStore, outbox: Outbox
) -> None:
    job_id = submit(store, metadata={"k": "v"})
    run(store, b'{"text":"gr\xc3\xbcn","n":1.50}')

    started, ended = sorted(claim(outbox), key=lambda message: message.id, reverse=True)
    first, last = json.loads(started.body), json.loads(ended.body)

    assert [started.id, ended.id] == delivery_ids(job_id)
    assert (first["type"], last["type"]) == ("job.started", "job.completed")
    assert (first["data"]["status"], first["data"]["output"]) == ("running", None)
    assert last["data"] == {
        **store.get(job_id).job().model_dump(mode="json"),
        "urls": {
            "get": f"http://api:8080/v1/jobs/{job_id}",
            "events": f"http://api:8080/v1/jobs/{job_id}/events",
            "cancel": f"http://api:8080/v1/jobs/{job_id}/cancel",
        },
    }
    assert last["data"]["output"] == {"text": "grün", "n": 1.5}
    assert last["timestamp"] == last["data"]["finished_at"]
    assert (ended.attempt, ended.failures, ended.url) == (1, 0, "https://receiver.example/hook")


@pytest.mark.parametrize("events", [("started",), ("completed",), ("started", "completed")])
def test_only_what_was_asked_for_is_told(
    store: JobStore, outbox: Outbox, events: tuple[str, ...]
) -> None:
    submit(store, *events)
    run(store)
    assert Counter(json.loads(m.body)["type"] for m in claim(outbox)) == Counter(
        f"job.{event}" for event in events
    )


def test_a_job_without_a_webhook_leaves_nothing(store: JobStore, outbox: Outbox) -> None:
    submit(store, webhook="")
    run(store)
    assert not waiting(outbox) and claim(outbox) == []
    assert list(store.redis.scan_iter(f"{store.keys.prefix}:delivery:*")) == []


def test_every_way_to_end_is_told_once(store: JobStore, outbox: Outbox) -> None:
    canceled, expired, failed = (
        submit(store, "completed"),
        submit(store, "completed", expires_in=0.001),
        submit(store, "completed"),
    )
    store.cancel(canceled)
    eventually(lambda: store.rescue(MODEL) and store.get(expired).terminal)
    [attempt] = store.claim(MODEL, 5, "w").claims
    finish = Finish(failed, attempt.attempt, JobState.FAILED, b"", ERROR)
    store.write([finish, finish])
    store.cancel(canceled)

    told = {
        json.loads(m.body)["data"]["id"]: json.loads(m.body)["data"]["status"]
        for m in claim(outbox)
    }
    assert told == {canceled: "canceled", expired: "expired", failed: "failed"}


def test_a_second_attempt_of_a_job_is_no_second_start(store: JobStore, outbox: Outbox) -> None:
    submit(store, "started")
    [first] = store.claim(MODEL, 1, "w").claims
    store.write([Requeue(first.id, 1, "retry")])
    store.claim(MODEL, 1, "w")
    assert len(claim(outbox)) == 1


def test_what_is_delivered_is_never_claimed_again(store: JobStore, outbox: Outbox) -> None:
    [job_id] = completed(store)
    [message] = claim(outbox)
    assert claim(outbox) == [], "it is held"
    assert outbox.record(message, DELIVERED)
    assert outbox.record(message, DELIVERED), "repeated"
    assert claim(outbox) == [] and not waiting(outbox)

    [delivery] = outbox.of_job(job_id, "t")
    assert (delivery.status, delivery.attempts, delivery.response_status) == ("delivered", 1, 204)
    assert delivery.delivered_at and delivery.next_attempt_at is None and delivery.error is None
    ttl = store.redis.ttl(store.keys("delivery", message.id))
    assert 0 < ttl <= store.retention, "the output is kept no longer than the job"


def test_a_sender_that_dies_leaves_it_to_another_and_is_fenced(
    store: JobStore, outbox: Outbox
) -> None:
    completed(store)
    [lost] = claim(outbox, lease=0.05)
    found: list[Message] = []
    eventually(lambda: found.extend(claim(outbox)) or found)

    [again] = found
    assert (again.id, again.body) == (lost.id, lost.body)
    assert (lost.attempt, again.attempt, again.failures) == (1, 2, 0)
    assert not outbox.record(lost, DELIVERED)
    assert outbox.record(again, DELIVERED)


def test_a_failure_is_tried_later_with_the_same_id_and_body(
    store: JobStore, outbox: Outbox
) -> None:
    [job_id] = completed(store)
    [first] = claim(outbox)
    outbox.record(first, Recorded("retry", delay=60, status=500, fault="status", well=True))
    assert claim(outbox) == []
    [delivery] = outbox.of_job(job_id, "t")
    assert (delivery.status, delivery.error, delivery.response_status) == ("pending", "status", 500)
    assert delivery.next_attempt_at and delivery.last_attempt_at
    assert delivery.next_attempt_at > delivery.last_attempt_at

    due_now(store, first)
    [second] = claim(outbox)
    assert (second.id, second.body, second.failures) == (first.id, first.body, 1)


def test_what_is_given_back_is_due_at_once_and_uncharged(store: JobStore, outbox: Outbox) -> None:
    completed(store)
    [first] = claim(outbox)
    outbox.record(first, Recorded("returned"))
    [second] = claim(outbox)
    assert second.failures == 0


def test_the_dead_are_listed_and_replayed(store: JobStore, outbox: Outbox) -> None:
    [job_id] = completed(store)
    [message] = claim(outbox)
    outbox.record(message, Recorded("dead", status=410, fault="status", well=True))
    assert claim(outbox) == []
    [dead] = outbox.undelivered("t", 10)
    assert (dead.job_id, dead.status, dead.response_status) == (job_id, "dead", 410)
    assert outbox.undelivered("another", 10) == []

    [replayed] = outbox.replay(job_id, "t")
    assert replayed.status == "pending" and outbox.undelivered("t", 10) == []
    [again] = claim(outbox)
    assert (again.id, again.body, again.failures) == (message.id, message.body, 0)
    assert again.age < 5, "the schedule begins anew"
    outbox.replay(job_id, "t")
    assert claim(outbox) == [], "one that is under way is left alone"
    assert outbox.record(again, DELIVERED)
    outbox.replay(job_id, "t")
    assert len(claim(outbox)) == 1, "a delivered one too"


def test_a_delivery_outlives_its_job(store: JobStore, outbox: Outbox) -> None:
    [job_id] = completed(store)
    store.redis.delete(store.keys("job", job_id))
    [message] = claim(outbox)
    assert json.loads(message.body)["data"]["output"] == {"text": "a"}
    assert outbox.of_job(job_id, "t")[0].id == message.id


def test_deleting_a_job_deletes_what_was_to_be_told(store: JobStore, outbox: Outbox) -> None:
    [job_id] = completed(store)
    store.delete(job_id, "t")
    assert claim(outbox) == []
    with pytest.raises(JobNotFound):
        outbox.of_job(job_id, "t")
    assert store.redis.zcard(store.keys("pending")) == 0


def test_another_tenants_deliveries_do_not_exist(store: JobStore, outbox: Outbox) -> None:
    [job_id] = completed(store)
    for call in (outbox.of_job, outbox.replay):
        for asked in (job_id, "job_" + "0" * 32, "msg_x", "x"):
            with pytest.raises(JobNotFound):
                call(asked, "another")


def test_a_retried_job_tells_too(store: JobStore, outbox: Outbox) -> None:
    job_id = submit(store, "completed")
    [attempt] = store.claim(MODEL, 1, "w").claims
    store.write([Finish(job_id, attempt.attempt, JobState.FAILED, dead=True)])
    again = store.retry(job_id, "t", max_queued=10).id
    run(store)
    told = {json.loads(message.body)["data"]["id"] for message in claim(outbox)}
    assert told == {job_id, again}


def test_a_receiver_gets_few_sends_at_once_and_the_others_their_turn(
    store: JobStore, outbox: Outbox
) -> None:
    completed(store, 20, url="https://busy.example/")
    completed(store, 1, url="https://quiet.example/")
    hosts = Counter(message.to for message in claim(outbox))
    assert hosts == {"t busy.example:443": 4, "t quiet.example:443": 1}


def test_room_is_kept_to_and_receivers_take_turns(store: JobStore, outbox: Outbox) -> None:
    completed(store, 3, url="https://a.example/")
    completed(store, 3, url="https://b.example/")
    assert len(claim(outbox, room=2)) == 2
    served = Counter(message.to for message in claim(outbox, room=2))
    assert served["t b.example:443"] >= 1


def test_tenants_take_turns(store: JobStore, outbox: Outbox) -> None:
    for number in range(20):
        completed(store, url=f"https://r{number}.example/", tenant="many")
    completed(store, url="https://one.example/", tenant="few")
    taken = [*claim(outbox, room=8), *claim(outbox, room=8)]
    assert [message.tenant for message in taken].count("few") == 1
    assert len(taken) >= 9


@pytest.mark.parametrize(("free", "most"), [(1, 1), (2, 1), (3, 2), (64, 32)])
def test_a_tenant_holds_no_more_than_it_leaves_free(
    store: JobStore, outbox: Outbox, free: int, most: int
) -> None:
    for number in range(most + 5):
        completed(store, url=f"https://r{number}.example/", tenant="many")
    taken = outbox.claim(free, LEASE, free=free)
    assert len(taken) == most

    left, held = free - most, {"many": most}
    assert outbox.claim(max(left, 1), LEASE, free=left, held=held) == []
    completed(store, url="https://one.example/", tenant="few")
    others = outbox.claim(left, LEASE, free=left, held=held) if left else []
    assert {message.tenant for message in others} == ({"few"} if left else set())


def fail(outbox: Outbox, message: Message) -> None:
    decision = Recorded("retry", delay=0.0, fault="timeout", well=False)
    assert outbox.record(message, decision)


def test_a_failing_receiver_gets_one_send_at_a_time_and_then_none(
    store: JobStore, outbox: Outbox
) -> None:
    completed(store, 10)
    completed(store, 1, url="https://receiver.example/", tenant="other")
    first = [message for message in claim(outbox) if message.to.startswith("t ")]
    assert len(first) == 4
    for message in first:
        fail(outbox, message)
    [probe] = claim(outbox)
    assert claim(outbox) == []
    fail(outbox, probe)
    assert claim(outbox) == [], "the circuit is open"

    shut_is_over(store, probe.to)
    [probe] = claim(outbox)
    assert claim(outbox) == [], "one probe"
    fail(outbox, probe)
    assert claim(outbox) == [], "open again"

    shut_is_over(store, probe.to)
    [probe] = claim(outbox)
    outbox.record(probe, DELIVERED)
    assert len(claim(outbox)) == 4, "closed"


def test_the_circuit_is_the_tenants_own(store: JobStore, outbox: Outbox) -> None:
    completed(store, 9)
    for _ in range(5):
        fail(outbox, claim(outbox, room=1)[0])
    assert claim(outbox) == []
    completed(store, tenant="other")
    assert [message.to for message in claim(outbox)] == ["other receiver.example:443"]


def test_a_probe_that_dies_is_followed_by_another(store: JobStore, outbox: Outbox) -> None:
    completed(store, 9)
    for _ in range(5):
        fail(outbox, claim(outbox, room=1)[0])
    shut_is_over(store, "t receiver.example:443")
    assert len(claim(outbox, lease=0.05)) == 1
    eventually(lambda: claim(outbox), what="the next probe")


def test_what_was_never_let_through_is_given_up_in_the_end(store: JobStore, outbox: Outbox) -> None:
    [job_id] = completed(store)
    [name] = [delivery.id for delivery in outbox.of_job(job_id, "t")]
    store.redis.zadd(store.keys("pending"), {name: 1})
    outbox.ring_wanted(3600)
    [dead] = outbox.undelivered("t", 10)
    assert (dead.id, dead.error) == (name, "too_late")
    assert claim(outbox) == []


def test_one_doorbell_for_what_is_due(store: JobStore, outbox: Outbox) -> None:
    assert not waiting(outbox)
    completed(store, 5)
    assert waiting(outbox) and not waiting(outbox), "one ring is on its way"
    claim(outbox, room=1)
    assert waiting(outbox), "it was answered, and more is due"


def test_the_backlog_is_bounded_and_a_tenant_leaves_room_to_others(
    store: JobStore, outbox: Outbox
) -> None:
    completed(store, 3)
    outbox.admit("t", 7)
    with pytest.raises(BacklogFull):
        outbox.admit("t", 6)
    outbox.admit("other", 4)
    with pytest.raises(BacklogFull):
        outbox.admit("other", 3)
    for message in claim(outbox):
        outbox.record(message, DELIVERED)
    outbox.admit("t", 1)


def test_a_delivery_leaves_the_backlog_however_it_ends(store: JobStore, outbox: Outbox) -> None:
    ended = [
        *completed(store, url="https://a.example/"),
        *completed(store, url="https://b.example/"),
        *completed(store, url="https://c.example/"),
        *completed(store, url="https://d.example/"),
    ]
    delivered, dead, late, deleted = delivery_ids_of(ended)
    messages = {message.id: message for message in claim(outbox)}
    outbox.record(messages[delivered], DELIVERED)
    outbox.record(messages[dead], Recorded("dead"))
    store.redis.zadd(store.keys("pending"), {late: 1})
    outbox.ring_wanted(3600)
    store.delete(ended[3], "t")
    outbox.record(messages[deleted], DELIVERED)
    for key in ("pending",), ("backlog", "t"):
        assert store.redis.zcard(store.keys(*key)) == 0, key
    outbox.replay(ended[1], "t")
    assert store.redis.zcard(store.keys("backlog", "t")) == 1


def test_a_whole_schedule_ends_in_the_dead(store: JobStore, outbox: Outbox) -> None:
    """Attempt by attempt through the store, with the time between them taken out."""
    completed(store)
    schedule, attempts = Schedule(first=1, longest=100, span=500), 0
    age = 0.0
    while True:
        [message] = claim(outbox)
        assert message.failures == attempts
        decision = schedule.decide(Sent(500), message.failures, age)
        outbox.record(
            message, Recorded(decision.outcome, decision.delay, 500, decision.fault, True)
        )
        attempts, age = attempts + 1, age + decision.delay
        if decision.outcome == "dead":
            break
        due_now(store, message)
    assert claim(outbox) == []
    assert attempts > 5
    assert outbox.undelivered("t", 10)[0].attempts == attempts
