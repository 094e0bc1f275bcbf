"""What goes into the job store and what comes out: jobs, claims, writes, records.

What the store answers to writes is in `shared.domain.write_results`.
"""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from shared.domain.breaker import BreakerStatus, Verdict
from shared.domain.past_attempts import PastAttempt, past_attempts
from shared.domain.schemas import Job, Usage, rfc3339
from shared.domain.sharing import Share
from shared.domain.states import TERMINAL, JobState

JOB_ID = re.compile(r"job_[0-9a-f]{32}")
_JSON = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()
_NULL = msgspec.Raw(b"null")
_STATES = {state.value: state for state in JobState}
_NO_METADATA = msgspec.Raw(b"{}")
_FURTHER: dict[str, Any] = {}
"""Members of a job's document that mean nothing to the store, with their defaults: filled in below."""
_NO_USAGE = {
    **dict.fromkeys(name for name in Usage.model_fields if name != "attempts"),
    "attempts": 0,
}


def new_job_id() -> str:
    """`job_` + 48 bits of time (ms) + 80 random bits in hex: ids sort by age and are never reused."""
    return f"job_{int(time.time() * 1000):012x}{os.urandom(10).hex()}"


def delivery_ids(job_id: str) -> list[str]:
    """The ids of a job's webhook deliveries, whether they exist or not; outbox.lua spells them too."""
    return [f"msg_{job_id.removeprefix('job_')}_{event}" for event in ("started", "completed")]


def own_key(kind: str, name: str) -> str:
    """An idempotency key of the server's own, which no caller can send: theirs are printable ASCII."""
    return f"\0{kind} {name}"


class NewJob(msgspec.Struct, frozen=True):
    """What `create` needs. `request` is the JSON that the worker gets: content, params, seed.

    `cost` is the work that the job is estimated to be, in the unit of its model (tokens, where it has
    them): what its tenant's share is charged.
    `fallback_from` names the model that was asked for, where `model` stands in for it,
    `webhook` whom to tell of its start and end (`shared.webhooks.outbox.Subscription`),
    `share` what it has in common with others that ask the same, None where it runs for itself,
    `expected` how many bytes it is expected to write: counted for its tenant until it has ended.
    `key_ttl` is how many seconds `idempotency_key` names the job.
    `asked` is what its client asked in a dialect (JSON), kept for as long as the job; empty: nothing.
    `told_as` is `response` where its end is told to its tenant's endpoints as that of a response of OpenAI's.
    `keeps_request`: its request is kept for as long as its record, and not to its end alone.
    `takes_key`: a job is made whatever `idempotency_key` names, and the key names this one from now on. But a
    job of the same key that lives, and that nobody wants canceled, or that has succeeded or failed within the
    last `joins` seconds, stands for this one; 0: none does.
    """

    id: str
    model: str
    tenant: str
    request: bytes
    priority: Literal["high", "normal", "low"] = "normal"
    cost: int = 1
    expires_in: float = 24 * 3600.0
    metadata: Mapping[str, str] = {}
    traceparent: str = ""
    request_id: str = ""
    fallback_from: str = ""
    webhook: str = ""
    share: Share | None = None
    idempotency_key: str | None = None
    body_digest: str = ""
    key_ttl: int = 24 * 3600
    takes_key: bool = False
    joins: float = 0.0
    expected: int = 0
    asked: bytes = b""
    told_as: Literal["", "response"] = ""
    keeps_request: bool = False


class Claim(msgspec.Struct, frozen=True):
    """One attempt handed to a worker. `deadline` is in seconds from the moment of the claim.

    `device_seconds` is what the attempts before it have used.
    `estimate_error`: how many seconds later than estimated the job starts, at the first attempt of one
    that had to wait and whose wait could be estimated when it was made.
    """

    id: str
    attempt: int
    tenant: str
    request: bytes
    deadline: float
    created_ms: int
    claimed_ms: int
    failures: int
    crashes: int
    traceparent: str
    request_id: str
    device_seconds: float = 0.0
    estimate_error: float | None = None
    priority: str = "normal"


@dataclass(frozen=True, slots=True)
class Claimed:
    """`waiting` is the depth of the queue after the claim. `pause`: seconds until the model's breaker lets
    somebody try, 0 when it let this worker. `change`: what the breaker was and is, when it changed.
    `ring`: this drain is full, others wait, and a worker stands idle, so a doorbell is wanted.
    """

    claims: list[Claim]
    waiting: int
    pause: float = 0.0
    change: tuple[str, str] | None = None
    ring: bool = False


class Append(msgspec.Struct, frozen=True):
    """One event of a running attempt. `data` is JSON; `tokens` its token ids, comma-separated."""

    id: str
    attempt: int
    seq: int
    kind: str
    data: bytes
    tokens: str = ""


class Finish(msgspec.Struct, frozen=True):
    """The end of a job. Empty `output`, `error`, `usage` stand for null; otherwise JSON.

    `dead` keeps the job in its tenant's dead-letter list, from where it can be tried again; `verdict` is
    what the model's breaker makes of it. `seq` is the number of its event: where the log ends before the
    one in front of it, Redis has forgotten what it had answered, and the end is refused. 0: whatever is next.
    `further` are other members of `shared.domain.schemas.Job` by name, each in JSON: what a worker says of a
    job beside its usage needs no more than to be declared there and put in here.
    """

    id: str
    attempt: int
    state: JobState
    output: bytes = b""
    error: bytes = b""
    usage: bytes = b""
    dead: bool = False
    verdict: Verdict = "ignored"
    seq: int = 0
    further: Mapping[str, str] = {}


class Requeue(msgspec.Struct, frozen=True):
    """An attempt given back: after `delay` seconds, charged as a failure, a crash, or not at all.

    `device_seconds` is what it and the attempts before it have used, `verdict` what the model's breaker
    makes of it, `seq` as in `Finish`.
    """

    id: str
    attempt: int
    reason: str
    delay: float = 0.0
    charge: Literal["failures", "crashes", ""] = ""
    device_seconds: float = 0.0
    verdict: Verdict = "ignored"
    seq: int = 0


Write = Append | Finish | Requeue


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model's queue, workers and breaker now. `workers` maps a worker's name to its last report."""

    waiting: int
    running: int
    workers: dict[str, dict[str, Any]]
    breaker: BreakerStatus


class Record(msgspec.Struct, frozen=True):
    """A job record as read. While it waits, `position` is how many jobs go before it, and `start` when it
    is estimated to start (ms), if that can be told.
    """

    fields: Mapping[str, str]
    position: int | None = None
    start: int | None = None

    @property
    def id(self) -> str:
        return self.fields["id"]

    @property
    def state(self) -> JobState:
        return _STATES[self.fields["state"]]

    @property
    def terminal(self) -> bool:
        return self.fields["state"] in TERMINAL

    @property
    def head(self) -> str:
        """The id of the last event in the log."""
        return self.fields["head"]

    @property
    def past(self) -> list[PastAttempt]:
        """The attempts that did not end it, of which the store keeps the newest; none of a job of old."""
        return past_attempts(self.fields.get("past", ""))

    def members(self, urls: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The job as clients see it: the members of `shared.domain.schemas.Job` in its order, to be encoded
        as JSON. What is stored as JSON is not parsed.
        """
        fields = self.fields
        get = fields.get
        started, finished, usage = get("started"), get("finished"), get("usage")
        members: dict[str, Any] = {
            "id": fields["id"],
            "object": "job",
            "model": fields["model"],
            "status": fields["state"],
            "created_at": rfc3339(int(fields["created"])),
            "started_at": rfc3339(int(started)) if started else None,
            "finished_at": rfc3339(int(finished)) if finished else None,
            "attempt": int(fields["attempt"]),
            "queue_position": self.position,
            "estimated_start": rfc3339(self.start) if self.start is not None else None,
            "cancel_requested": get("cancel_requested") == "1",
            "cached": get("cached") == "1",
            "output": _raw(get("output"), _NULL),
            "error": _raw(get("error"), _NULL),
            "usage": {**_NO_USAGE, **_JSON.decode(usage)} if usage else None,
            "metadata": _raw(get("metadata"), _NO_METADATA),
        }
        if get("fallback_from"):
            members["fallback_from"] = fields["fallback_from"]
        if get("past"):
            members["earlier_attempts"] = [one.members() for one in self.past]
        for name, default in _FURTHER.items():
            members[name] = msgspec.Raw(told.encode()) if (told := get(name)) else default
        members["urls"] = urls
        return members

    def to_json(self, urls: Mapping[str, str] | None = None) -> bytes:
        """`members` in JSON, on one line."""
        return _ENCODER.encode(self.members(urls)).replace(b"\n", b" ").replace(b"\r", b" ")

    def job(self) -> Job:
        """The job as a model of the schema, for code that looks at its members."""
        return Job.model_validate_json(self.to_json())


def _raw(stored: str | None, otherwise: msgspec.Raw) -> msgspec.Raw:
    return msgspec.Raw(stored.encode()) if stored else otherwise


_BLANK = Record(
    {"id": "", "model": "", "state": "queued", "created": "0", "attempt": "0"}
    | {"fallback_from": "-", "past": "1 0 0 - -"}
)
_FURTHER.update(
    (name, field.get_default(call_default_factory=True))
    for name, field in Job.model_fields.items()
    if name not in _BLANK.members()
)
