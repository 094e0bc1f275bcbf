"""What versions before stored is read and goes on: their records, logs, results and webhooks.

Each file is what a version's own scripts had written of nine jobs: queued, running, with a follower, ended
in several ways, one answered from the cache. Times are moved to now. `stored_before.json` is of the last
version that did not count what tenants store (before a924040), `stored_before_layout.json` of the last one
before its packages were laid out anew (83a280e).
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.domain.records import Append, Finish, NewJob, new_job_id
from shared.domain.sharing import Share
from shared.domain.states import JobState
from shared.store.events import EventLog
from shared.store.jobs import JobStore
from shared.webhooks.outbox import Outbox

STORED = ("stored_before.json", "stored_before_layout.json")
OUTPUT = {"text": "hello", "finish_reason": "stop"}
MOMENT = re.compile(r"\b1[789]\d{11}\b")
MODEL = "m"


def moved(value: Any, by: int) -> Any:
    """A value of Redis with each time in it (ms) so much later."""
    if isinstance(value, dict):
        return {name: moved(one, by) for name, one in value.items()}
    if isinstance(value, list):
        return [moved(one, by) for one in value]
    if isinstance(value, float):
        return value + by if 1.7e12 < value < 2e12 else value
    return MOMENT.sub(lambda found: str(int(found[0]) + by), value)


@pytest.fixture(params=STORED)
def ids(store: JobStore, request: pytest.FixtureRequest) -> Mapping[str, str]:
    """The jobs by what they are, in the store."""
    document = json.loads(Path(__file__).with_name(request.param).read_text("utf-8"))
    redis = store.redis
    seconds, micros = redis.time()  # type: ignore[misc]
    later = seconds * 1000 + micros // 1000 - document["at_ms"]
    for row in document["keys"]:
        name, value = f"{store.keys.prefix}:{row['key']}", moved(row["value"], later)
        match row["type"]:
            case "string":
                redis.set(name, value)
            case "hash":
                redis.hset(name, mapping=value)
            case "zset":
                redis.zadd(name, dict(value))
            case "stream":
                for event_id, fields in value:
                    redis.xadd(name, fields, id=event_id)
        redis.expire(name, row["ttl"])
    found: dict[str, str] = document["ids"]
    return found


def kinds(store: JobStore, job_id: str) -> list[str]:
    return [event.kind for event in EventLog(store.redis, store.keys).read(job_id)]


def ask(store: JobStore, digest: str) -> Any:
    job = NewJob(new_job_id(), MODEL, "t", b"{}", share=Share(digest, 60, 100, speaks=True))
    return store.create(job, max_queued=100)


def test_ended_jobs_are_read(store: JobStore, ids: Mapping[str, str]) -> None:
    for name, cached in (("finished", False), ("hit", True)):
        job = store.get(ids[name]).job()
        assert (job.status, job.output, job.cached) == ("succeeded", OUTPUT, cached)
    assert kinds(store, ids["finished"]) == ["status", "status", "token", "done"]
    assert kinds(store, ids["hit"]) == ["status", "token", "done"]
    assert {record.id for record in store.listing("t", limit=100)[0]} == set(ids.values())


def test_its_results_answer_new_requests(store: JobStore, ids: Mapping[str, str]) -> None:
    before = store.held_bytes("t")
    answers = [ask(store, "d") for _ in range(3)]

    assert all(json.loads(answer.result.output) == OUTPUT for answer in answers)
    assert store.get(ids["finished"]).job().output == OUTPUT, "it shares what was its own"
    assert store.get(ids["hit"]).job().output == OUTPUT
    for job_id in (ids["finished"], ids["hit"], *(answer.id for answer in answers)):
        store.delete(job_id, "t")
    assert store.held_bytes("t") <= before and not list(
        store.redis.scan_iter(store.keys("output", "*"))
    )


def test_failed_jobs_are_tried_again(store: JobStore, ids: Mapping[str, str]) -> None:
    """An older version kept every input, a later one not those at fault; what is kept can be tried again."""
    kept = [
        name for name in ("dead", "failed") if store.redis.exists(store.keys("request", ids[name]))
    ]
    assert "dead" in kept
    for name in kept:
        again = store.retry(ids[name], "t", max_queued=100)
        assert store.get(again.id).job().metadata == {"retry_of": ids[name]}


def test_running_jobs_go_on_with_their_workers(store: JobStore, ids: Mapping[str, str]) -> None:
    job_id, before = ids["running"], store.held_bytes("t")
    said = Append(job_id, 1, 2, "token", b'{"text":"lo","index":1}', "6")
    done = Finish(job_id, 1, JobState.SUCCEEDED, json.dumps(OUTPUT).encode(), b"", b"{}", seq=3)
    assert store.commit([said, done], None, "w").results == [1, 1]
    assert store.streamed(job_id)[0] == "hello" and kinds(store, job_id)[-1] == "done"
    assert store.held_bytes("t") > 4000, "counted from its end on"
    store.delete(job_id, "t")
    assert store.held_bytes("t") <= before


def test_waiting_jobs_run_and_followers_get_the_result(
    store: JobStore, ids: Mapping[str, str]
) -> None:
    done = Finish(
        ids["followed"], 1, JobState.SUCCEEDED, json.dumps(OUTPUT).encode(), b"", b"{}", seq=1
    )
    assert store.commit([done], None, "w").results == [1]
    for name in ("followed", "follows"):
        assert store.get(ids[name]).job().output == OUTPUT

    [claim] = store.claim(MODEL, 8, "w").claims
    assert (claim.id, claim.request) == (ids["queued"], b'{"content":"queued"}')
    assert store.write([Finish(claim.id, 1, JobState.SUCCEEDED, b'"y"', b"", b"{}")]) == [1]


def test_webhooks_are_delivered(store: JobStore, ids: Mapping[str, str]) -> None:
    [message] = Outbox(store).claim(8, 30)
    data = json.loads(message.body)["data"]
    assert (data["id"], data["output"]) == (ids["hooked"], OUTPUT)
    store.delete(ids["hooked"], "t")
