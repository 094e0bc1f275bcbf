"""Jobs that share results, for tests of the store: asked, claimed and ended in one call each."""

import json
from typing import Any

from shared.domain.creation import Created, Outcome
from shared.domain.records import Append, Claim, Finish, NewJob, Record, new_job_id
from shared.domain.sharing import Result, Share
from shared.domain.states import JobState
from shared.domain.write_results import WriteResult
from shared.store.events import EventLog
from shared.store.jobs import JobStore

MODEL = "m"
OUTPUT = b'{"text":"hello","finish_reason":"stop"}'
USAGE = b'{"prompt_tokens":3,"completion_tokens":2,"run_ms":9.5,"device_seconds":0.25,"attempts":1}'


CALL = {"type": "tool_call", "index": 0, "arguments": "", "id": "call_0", "name": "look"}
MORE = {"type": "tool_call", "index": 1, "arguments": '{"a":1}'}


def share(digest: str = "d", ttl: int = 60, most: int = 100) -> Share:
    return Share(digest, ttl, most, speaks=True)


def ask(
    store: JobStore, tenant: str = "t", *, known: Result | None = None, **fields: Any
) -> Outcome:
    fields.setdefault("share", share())
    limit = fields.pop("max_queued", 1000)
    job = NewJob(fields.pop("id", None) or new_job_id(), MODEL, tenant, b"{}", **fields)
    return store.create(job, max_queued=limit, known=known)


def runs(outcome: Outcome) -> bool:
    return isinstance(outcome, Created)


def claim(store: JobStore, room: int = 8) -> list[Claim]:
    return store.claim(MODEL, room, "w").claims


def say(store: JobStore, held: Claim, seq: int, text: str, token: int) -> int:
    data = json.dumps({"text": text, "index": seq - 1}).encode()
    return store.write([Append(held.id, held.attempt, seq, "token", data, str(token))])[0]


def succeed(store: JobStore, held: Claim, output: bytes = OUTPUT) -> None:
    done = Finish(held.id, held.attempt, JobState.SUCCEEDED, output, b"", USAGE)
    assert store.write([done]) == [WriteResult.DONE]


def ended(store: JobStore, held: Claim, state: JobState) -> None:
    assert store.write([Finish(held.id, held.attempt, state, error=b'{"code":"x"}')]) == [
        WriteResult.DONE
    ]


def run(store: JobStore, **fields: Any) -> Outcome:
    """Ask, and let a worker answer."""
    created = ask(store, **fields)
    [held] = claim(store)
    succeed(store, held)
    return created


def state(store: JobStore, created: Outcome) -> JobState:
    return store.get(created.id).state


def kinds(store: JobStore, created: Outcome) -> list[tuple[str, str]]:
    events = EventLog(store.redis, store.keys).read(created.id)
    return [(str(event.id), event.kind) for event in events]


def served(record: Record) -> tuple[Any, ...]:
    job = record.job()
    assert job.usage is not None
    return job.status, job.cached, job.output, job.usage.device_seconds, job.started_at
