"""One result, stored once: the jobs and webhooks that were answered with it refer to it."""

import json
from typing import Any

import pytest

from shared.domain.creation import Cached, Outcome
from shared.domain.records import Finish, NewJob, new_job_id
from shared.domain.schemas import MAX_EXPIRES_IN
from shared.domain.sharing import Result, Share
from shared.domain.states import JobState
from shared.store.events import EventId, EventLog
from shared.store.jobs import JobStore
from shared.webhooks.outbox import Outbox, Recorded
from tests.shared.store.sharing import MODEL, USAGE, ask, claim, run, share, succeed

LARGE = b'{"text":"' + b"x" * 100_000 + b'","finish_reason":"stop"}'
HOOK = "completed http://base example.org:443 https://example.org/x"


def ran(store: JobStore, **fields: Any) -> Outcome:
    """A job that ran and brought a large result."""
    created = ask(store, **fields)
    succeed(store, claim(store)[0], LARGE)
    return created


def hits(store: JobStore, number: int, **fields: Any) -> list[str]:
    made = [ask(store, **fields) for _ in range(number)]
    assert all(isinstance(created, Cached) for created in made)
    return [created.id for created in made]


def output_of(store: JobStore, job_id: str) -> Any:
    return store.get(job_id).job().output


def outputs(store: JobStore) -> list[str]:
    redis: Any = store.redis
    return [key.decode() for key in redis.scan_iter(store.keys("output", "*"))]


def sizes(store: JobStore) -> int:
    """Bytes of all keys."""
    redis: Any = store.redis
    keys = redis.scan_iter(f"{store.keys.prefix}:*", count=1000)
    return sum(redis.memory_usage(key, samples=0) for key in keys)


def test_a_hundred_answers_take_no_more_room_than_their_records(store: JobStore) -> None:
    source = ran(store)
    before = sizes(store)

    ids = hits(store, 100)

    assert sizes(store) - before < len(LARGE) + 100 * 1500
    assert {output_of(store, job_id)["text"] for job_id in (source.id, *ids)} == {"x" * 100_000}
    listed, _ = store.listing("t", limit=100)
    assert all(record.fields["output"] == LARGE.decode() for record in listed)
    assert json.loads(listed[0].fields["usage"])["device_seconds"] == 0
    assert json.loads(store.get(source.id).fields["usage"]) == json.loads(USAGE), "its own"


def test_those_who_waited_for_it_refer_to_it_too(store: JobStore) -> None:
    leader, *others = [ask(store) for _ in range(9)]
    succeed(store, claim(store)[0], LARGE)

    assert len(outputs(store)) == 1
    assert {output_of(store, job.id)["text"] for job in (leader, *others)} == {"x" * 100_000}
    assert sum(store.redis.hstrlen(store.keys("job", j.id), "output") for j in others) == 0  # type: ignore[misc]


def test_the_events_of_an_answer_are_told_without_a_log(store: JobStore) -> None:
    ran(store)
    [job_id] = hits(store, 1)
    log = EventLog(store.redis, store.keys)

    told = log.read(job_id)
    assert [(str(event.id), event.kind) for event in told] == [
        ("0-1", "status"),
        ("0-2", "token"),
        ("0-3", "done"),
    ]
    assert json.loads(told[1].data) == {"text": "x" * 100_000, "index": 0}
    assert [event.kind for event in log.read(job_id, EventId(0, 1))] == ["token", "done"]
    assert [event.kind for event in log.read(job_id, EventId(0, 2))] == ["done"]
    assert log.read(job_id, EventId(0, 3)) == [] and [
        e.kind for e in log.read(job_id, count=1)
    ] == ["status"]
    assert log.exists(job_id) and not store.redis.exists(store.keys("log", job_id))


def test_each_text_of_an_answer_has_an_event_of_its_own(store: JobStore) -> None:
    choices = [{"index": n, "text": text} for n, text in enumerate(("a", "", "c"))]
    ask(store)
    succeed(store, claim(store)[0], json.dumps({"text": "a", "choices": choices}).encode())
    [job_id] = hits(store, 1)

    log = EventLog(store.redis, store.keys)
    told = log.read(job_id)

    assert [str(event.id) for event in told] == ["0-1", "0-2", "0-3", "0-4"]
    assert [json.loads(event.data) for event in told[1:3]] == [
        {"text": "a", "index": 0},
        {"text": "c", "index": 0, "choice": 2},
    ]
    assert [str(event.id) for event in log.read(job_id, EventId(0, 2))] == ["0-3", "0-4"]
    assert [event.kind for event in log.read(job_id, EventId(0, 3))] == ["done"]


def test_the_event_of_an_answer_in_a_chat_has_the_parts_of_its_message(store: JobStore) -> None:
    function = {"name": "look", "arguments": "{}"}
    call = {"id": "call_1", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "reasoning_content": "h", "tool_calls": [call]}
    ask(store)
    output = {"text": "a", "finish_reason": "stop", "message": message}
    succeed(store, claim(store)[0], json.dumps(output).encode())
    [job_id] = hits(store, 1)

    told = EventLog(store.redis, store.keys).read(job_id)

    assert json.loads(told[1].data) == {
        "text": "a",
        "index": 0,
        "parts": [
            {"type": "reasoning", "text": "h"},
            {"type": "tool_call", "index": 0, "arguments": "{}", "id": "call_1", "name": "look"},
        ],
        "finish_reason": "stop",
    }


def test_an_answer_without_a_text_has_no_event_for_one(store: JobStore) -> None:
    created = ask(store)
    succeed(store, claim(store)[0], b'{"embeddings":[[1.0]]}')
    [job_id] = hits(store, 1)
    events = EventLog(store.redis, store.keys).read(job_id)
    assert [(str(event.id), event.kind) for event in events] == [("0-1", "status"), ("0-2", "done")]
    assert created.id != job_id


@pytest.mark.parametrize("first", ["source", "answers"])
def test_a_result_goes_with_the_last_who_refers_to_it(store: JobStore, first: str) -> None:
    source = ran(store)
    ids = hits(store, 3)
    order = [source.id, *ids] if first == "source" else [*ids, source.id]

    for job_id in order[:-1]:
        store.delete(job_id, "t")
        assert output_of(store, order[-1])["text"] == "x" * 100_000
    store.delete(order[-1], "t")

    assert outputs(store) == []
    assert int(store.redis.hget(store.keys("bytes", "t"), "total") or 0) < 2000  # type: ignore[arg-type]


def test_a_result_lives_as_long_as_the_last_who_refers_to_it(store: JobStore) -> None:
    """Its source has a few seconds left when it is found."""
    source = ran(store)
    redis: Any = store.redis
    redis.expire(store.keys("job", source.id), 5)

    [job_id] = hits(store, 1)

    [name] = outputs(store)
    assert redis.ttl(name) >= redis.ttl(store.keys("job", job_id)) > 50
    redis.delete(store.keys("job", source.id))
    assert output_of(store, job_id)["text"] == "x" * 100_000
    store.delete(job_id, "t")
    assert 0 < redis.ttl(name) <= 6, "the source might still be there"


def test_a_result_that_is_gone_is_not_found(store: JobStore) -> None:
    ran(store)
    hits(store, 1)
    store.redis.delete(*outputs(store))
    assert not isinstance(ask(store), Cached)


def test_a_repeated_call_gets_the_result_again(store: JobStore) -> None:
    ran(store)
    job_id = new_job_id()
    answers = [ask(store, id=job_id) for _ in range(2)]
    assert answers[0].result == answers[1].result != None  # noqa: E711


def test_what_a_process_remembers_is_stored_once_as_well(store: JobStore) -> None:
    known = Result(LARGE, USAGE)
    kept = Share("digest", 0, 100, speaks=True)
    before = sizes(store)

    ids = [ask(store, known=known, share=kept).id for _ in range(20)]

    assert sizes(store) - before < 2 * len(LARGE) and len(outputs(store)) == 1
    assert {output_of(store, job_id)["text"] for job_id in ids} == {"x" * 100_000}
    other = ask(store, known=Result(b'{"text":"y"}', USAGE), share=kept)
    assert output_of(store, other.id) == {"text": "y"}, (
        "of another process, which remembers another"
    )
    for job_id in (*ids, other.id):
        store.delete(job_id, "t")
    assert outputs(store) == []


def test_webhooks_of_answers_refer_to_the_result(store: JobStore) -> None:
    source, outbox = ran(store), Outbox(store)
    redis: Any = store.redis
    ids = hits(store, 3, webhook=HOOK)

    names = list(redis.scan_iter(store.keys("delivery", "*")))
    assert len(names) == 3 and max(redis.memory_usage(name, samples=0) for name in names) < 10_000
    [name] = outputs(store)
    assert redis.ttl(name) > MAX_EXPIRES_IN, "as long as a delivery may wait"
    for job_id in (source.id, *ids[:2]):
        store.delete(job_id, "t")

    [message] = outbox.claim(8, 30)
    body = json.loads(message.body)
    assert body["data"]["output"]["text"] == "x" * 100_000
    assert body["data"]["usage"]["device_seconds"] == 0 and body["data"]["cached"] is True

    assert outbox.record(message, Recorded("delivered", status=200))
    assert redis.ttl(name) <= 120, "delivered: kept as long as the job"
    outbox.replay(ids[2], "t")
    assert redis.ttl(name) > MAX_EXPIRES_IN
    store.delete(ids[2], "t")
    assert outputs(store) == []


def test_a_result_that_the_cache_forgot_stays_with_its_jobs(store: JobStore) -> None:
    ran(store, share=share("a", most=1))
    [job_id] = hits(store, 1, share=share("a", most=1))
    run(store, share=share("b", most=1))
    assert not isinstance(ask(store, share=share("a", most=1)), Cached)
    assert output_of(store, job_id)["text"] == "x" * 100_000


def test_tenants_have_results_of_their_own(store: JobStore) -> None:
    for tenant in ("t", "other"):
        ask(store, tenant)
        succeed(store, claim(store)[0], LARGE)
        assert isinstance(ask(store, tenant), Cached)
    assert len(outputs(store)) == 2


def test_a_job_that_may_not_be_shared_keeps_its_output_in_its_record(store: JobStore) -> None:
    job = NewJob(new_job_id(), MODEL, "t", b"{}")
    store.create(job, max_queued=10)
    [held] = claim(store)
    store.write([Finish(held.id, held.attempt, JobState.SUCCEEDED, LARGE, b"", USAGE)])
    assert outputs(store) == [] and output_of(store, job.id)["text"] == "x" * 100_000
