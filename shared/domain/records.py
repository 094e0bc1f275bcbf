"""What goes into the job store and what comes out: jobs, claims, writes, records."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from shared.domain.schemas import Job, JobError, JobUrls, Usage, rfc3339
from shared.domain.sharing import Result, Share
from shared.domain.states import TERMINAL, JobState
from shared.store.breaker import BreakerStatus, Verdict

JOB_ID = re.compile(r"job_[0-9a-f]{32}")
_JSON = msgspec.json.Decoder()


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
    `home` names the channel of a process that waits for the job's end (`shared.store.events.EventHub`),
    `fallback_from` the model that was asked for, where `model` stands in for it,
    `webhook` whom to tell of its start and end (`shared.webhooks.outbox.Subscription`),
    `share` what it has in common with others that ask the same, None where it runs for itself,
    `expected` how many bytes it is expected to write: counted for its tenant until it has ended.
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
    home: str = ""
    fallback_from: str = ""
    webhook: str = ""
    share: Share | None = None
    idempotency_key: str | None = None
    body_digest: str = ""
    expected: int = 0

    @property
    def footprint(self) -> int:
        """Bytes that the job takes in Redis beside what every job does."""
        metadata = sum(len(name) + len(value) for name, value in self.metadata.items())
        return len(self.request) + len(self.webhook) + metadata + self.expected


class Created(msgspec.Struct, frozen=True):
    """`ring`: push a doorbell for the model. `replayed`: an earlier request made the job already.

    `result`: the job has ended with it, another one having asked the same. `follows`: it waits for the
    result of one that works on the same. `position` and `start` as in `Record`, unless an earlier call made
    the job.
    """

    id: str
    created_ms: int
    ring: bool
    replayed: bool = False
    result: Result | None = None
    follows: bool = False
    position: int | None = None
    start: int | None = None


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
class Settled:
    """`results` are those of `JobStore.write`; `change` is what the breaker was and is, when it changed."""

    results: list[int]
    change: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat learned: how many jobs wait, and of each attempt held 1 renewed, 2 renewed and a
    cancel is waiting, 0 lost."""

    waiting: int
    results: list[int]


@dataclass(frozen=True, slots=True)
class Rescued:
    """What one rescue of a model put right."""

    requeued: int
    failed: int
    due: int
    expired: int
    ring: bool


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
        return JobState(self.fields["state"])

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def head(self) -> str:
        """The id of the last event in the log."""
        return self.fields["head"]

    def job(self, urls: JobUrls | None = None) -> Job:
        """The job as clients see it."""
        get = self.fields.get
        usage, error = get("usage"), get("error")
        return Job(
            id=self.id,
            model=self.fields["model"],
            status=self.state,
            created_at=rfc3339(int(self.fields["created"])),
            started_at=_moment(get("started")),
            finished_at=_moment(get("finished")),
            attempt=int(self.fields["attempt"]),
            queue_position=self.position,
            estimated_start=rfc3339(self.start) if self.start is not None else None,
            cancel_requested=get("cancel_requested") == "1",
            cached=get("cached") == "1",
            output=_json(get("output")),
            error=JobError(**_json(error)) if error else None,
            usage=Usage(**_json(usage)) if usage else None,
            metadata=_json(get("metadata")) or {},
            fallback_from=get("fallback_from"),
            urls=urls,
        )


def _moment(value: str | None) -> str | None:
    return rfc3339(int(value)) if value else None


def _json(value: str | None) -> Any:
    return _JSON.decode(value) if value else None
