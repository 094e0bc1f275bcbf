"""The result cache in the job store: who is given a kept result, and what is kept of it."""

import json
from typing import Any

import pytest

from shared.domain.creation import Cached, Replayed
from shared.domain.records import new_job_id
from shared.domain.sharing import Result
from shared.domain.states import JobState
from shared.store.events import EventLog
from shared.store.jobs import JobStore
from shared.webhooks.outbox import Outbox
from tests.shared.store.sharing import (
    OUTPUT,
    USAGE,
    ask,
    claim,
    ended,
    kinds,
    run,
    runs,
    served,
    share,
)


def test_who_asks_the_same_has_the_result_at_once(store: JobStore) -> None:
    first = run(store)
    again = ask(store)

    assert isinstance(again, Cached) and again.result.output == OUTPUT
    assert served(store.get(again.id)) == ("succeeded", True, json.loads(OUTPUT), 0, None)
    assert kinds(store, again) == [("0-1", "status"), ("0-2", "token"), ("0-3", "done")]
    told = EventLog(store.redis, store.keys).read(again.id)[1]
    assert json.loads(told.data) == {"text": "hello", "index": 0}
    assert not store.get(first.id).job().cached
    assert claim(store) == [], "it runs nowhere"


def test_a_repeated_call_gets_the_same_answer(store: JobStore) -> None:
    run(store)
    job_id = new_job_id()

    answers = [ask(store, id=job_id) for _ in range(2)]

    assert answers[0].result == answers[1].result != None  # noqa: E711
    assert [kind for _, kind in kinds(store, answers[0])].count("done") == 1


def test_one_that_is_not_shared_is_neither_looked_up_nor_kept(store: JobStore) -> None:
    run(store)
    assert runs(ask(store, share=None)) and runs(ask(store, share=None))


@pytest.mark.parametrize("end", [JobState.FAILED, JobState.CANCELED, JobState.EXPIRED])
def test_only_success_is_kept(store: JobStore, end: JobState) -> None:
    ask(store)
    ended(store, claim(store)[0], end)
    assert not isinstance(ask(store), Cached)


def test_what_was_deleted_is_not_found(store: JobStore) -> None:
    store.delete(run(store).id, "t")
    assert runs(ask(store))
    assert not store.redis.exists(store.keys("cached", "t", "d"))


def test_the_least_recently_used_goes_first(store: JobStore) -> None:
    redis: Any = store.redis
    for number, digest in enumerate("abc"):
        run(store, share=share(digest, most=3))
        redis.zadd(store.keys("results", "t"), {digest: number})
    assert isinstance(ask(store, share=share("a", most=3)), Cached)
    run(store, share=share("e", most=3))

    left = [digest for digest in "abce" if redis.exists(store.keys("cached", "t", digest))]

    assert left == ["a", "c", "e"]


def test_an_entry_lives_as_long_as_its_model_says(store: JobStore) -> None:
    redis: Any = store.redis
    run(store, share=share(ttl=42))
    assert 40 <= redis.ttl(store.keys("cached", "t", "d")) <= 42


def test_what_the_caller_knows_is_not_kept_here(store: JobStore) -> None:
    alone = share(ttl=0)
    run(store, share=alone)
    assert not isinstance(ask(store, share=alone), Cached)
    found = ask(store, share=alone, known=Result(OUTPUT, USAGE))
    assert served(store.get(found.id))[:2] == ("succeeded", True)


def test_a_hit_needs_no_room_in_the_queue(store: JobStore) -> None:
    run(store)
    ask(store, share=None)
    assert isinstance(ask(store, max_queued=1), Cached)


def test_it_counts_as_a_job_without_device_time(store: JobStore) -> None:
    run(store)
    ask(store)
    redis: Any = store.redis
    [day] = redis.scan_iter(store.keys("used", "*", "t"))
    used = {name.decode(): int(count) for name, count in redis.hgetall(day).items()}
    assert used["succeeded m"] == 2 and used["prompt_tokens m"] == 6
    assert used["device_us m"] == 250_000


def test_its_webhook_is_posted(store: JobStore) -> None:
    run(store)
    hook = "started,completed http://base example.org:443 https://example.org/x"
    again = ask(store, webhook=hook)
    redis: Any = store.redis
    [name] = redis.scan_iter(store.keys("delivery", "*"))
    told = redis.hgetall(name)
    assert told[b"job"].decode() == again.id and told[b"type"] == b"job.completed"
    assert told[b"job.cached"] == b"1"
    [message] = Outbox(store).claim(1, 30)
    assert message.fields["job.output"] == OUTPUT.decode()


def test_an_idempotency_key_names_it(store: JobStore) -> None:
    run(store)
    first, second = (ask(store, idempotency_key="k", body_digest="b") for _ in range(2))
    assert second == Replayed(first.id)
