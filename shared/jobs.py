"""The job store: the only writer of job state, and the queue itself.

Each transition is one Lua call (shared/lua), fenced by the attempt number and timed by Redis. Every
call may be repeated with the same arguments without a second effect, because clients retry.
Protocol and state machine: docs/job_lifecycle.md.
"""

import hashlib
import math
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import msgspec
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from shared import context
from shared.breaker import Breaker, BreakerPolicy, BreakerStatus, Verdict
from shared.courier import Courier
from shared.errors import (
    DeadlineUnreachable,
    IdempotencyMismatch,
    InvalidRequest,
    JobNotFailed,
    JobNotFound,
    JobNotTerminal,
    ModelUnavailable,
    QueueFull,
    StoreUnavailable,
    TryLater,
)
from shared.keys import Keys, lua_functions
from shared.redis_guard import MemoryGuard
from shared.schemas import MAX_EXPIRES_IN, Job, JobError, JobUrls, Usage, rfc3339
from shared.sharing import Result, Share
from shared.states import TERMINAL, JobState, lua_table
from shared.stats import GAMMA

ANY_TENANT = "*"
IDEMPOTENCY_TTL = 24 * 3600
CLAIM_BUDGET = 2**53
UNBOUNDED = 2**53
UNKNOWN_WAIT = 5
"""Seconds to try again after, while nothing is known of how fast a queue drains."""
MOST_WAIT = 3600
LIST_SCAN = 2_000
MAX_CONNECTIONS = 512
JOB_ID = re.compile(r"job_[0-9a-f]{32}")

_LUA = Path(__file__).parent / "lua"
_LIBRARIES = ("outbox", "lib", "flights", "breaker", "drain")
_JSON = msgspec.json.Decoder()


def new_job_id() -> str:
    """`job_` + 48 bits of time (ms) + 80 random bits in hex: ids sort by age and are never reused."""
    return f"job_{int(time.time() * 1000):012x}{secrets.token_hex(10)}"


def delivery_ids(job_id: str) -> list[str]:
    """The ids of a job's webhook deliveries, whether they exist or not; outbox.lua spells them too."""
    return [f"msg_{job_id.removeprefix('job_')}_{event}" for event in ("started", "completed")]


@dataclass(frozen=True, slots=True)
class NewJob:
    """What `create` needs. `request` is the JSON that the worker gets: content, params, seed.

    `cost` is the work that the job is estimated to be, in the unit of its model (tokens, where it has
    them): what its tenant's share is charged.
    `home` names the channel of a process that waits for the job's end (`shared.events.EventHub`),
    `fallback_from` the model that was asked for, where `model` stands in for it,
    `webhook` whom to tell of its start and end (`shared.webhooks.outbox.Subscription`),
    `share` what it has in common with others that ask the same, None where it runs for itself.
    """

    id: str
    model: str
    tenant: str
    request: bytes
    priority: Literal["high", "normal", "low"] = "normal"
    cost: int = 1
    expires_in: float = 24 * 3600.0
    metadata: Mapping[str, str] = field(default_factory=dict)
    traceparent: str = ""
    request_id: str = ""
    home: str = ""
    fallback_from: str = ""
    webhook: str = ""
    share: Share | None = None
    idempotency_key: str | None = None
    body_digest: str = ""


@dataclass(frozen=True, slots=True)
class Created:
    """`ring`: push a doorbell for the model. `replayed`: an earlier request made the job already.

    `result`: the job has ended with it, another one having asked the same. `follows`: it waits for the
    result of one that works on the same.
    """

    id: str
    created_ms: int
    ring: bool
    replayed: bool = False
    result: Result | None = None
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
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


@dataclass(frozen=True, slots=True)
class Append:
    """One event of a running attempt. `data` is JSON; `tokens` its token ids, comma-separated."""

    id: str
    attempt: int
    seq: int
    kind: str
    data: bytes
    tokens: str = ""


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a job. Empty `output`, `error`, `usage` stand for null; otherwise JSON.

    `dead` keeps the job in its tenant's dead-letter list, from where it can be tried again; `verdict` is
    what the model's breaker makes of it.
    """

    id: str
    attempt: int
    state: JobState
    output: bytes = b""
    error: bytes = b""
    usage: bytes = b""
    dead: bool = False
    verdict: Verdict = "ignored"


@dataclass(frozen=True, slots=True)
class Requeue:
    """An attempt given back: after `delay` seconds, charged as a failure, a crash, or not at all.

    `device_seconds` is what it and the attempts before it have used, `verdict` what the model's breaker
    makes of it.
    """

    id: str
    attempt: int
    reason: str
    delay: float = 0.0
    charge: Literal["failures", "crashes", ""] = ""
    device_seconds: float = 0.0
    verdict: Verdict = "ignored"


@dataclass(frozen=True, slots=True)
class Settled:
    """`results` are those of `JobStore.write`; `change` is what the breaker was and is, when it changed."""

    results: list[int]
    change: tuple[str, str] | None = None


Write = Append | Finish | Requeue


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


@dataclass(frozen=True, slots=True)
class Record:
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


def connect(url: str, timeout: float, *, retries: int = 1) -> Redis:
    """A Redis client whose every call ends within about `timeout` seconds.

    A lost connection is tried again at once (all scripts are idempotent); a timeout is not.
    Takes redis://, rediss://, unix:// and sentinel://host:port,host:port/service/db URLs.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": min(timeout, 1.0),
        "socket_keepalive": True,
        "health_check_interval": 15,
        "retry": Retry(
            ExponentialBackoff(cap=0.1, base=0.02),
            retries,
            supported_errors=(RedisConnectionError,),
        ),
    }
    if url.startswith("sentinel://"):
        return _sentinel(url, options)
    return Redis.from_url(url, max_connections=MAX_CONNECTIONS, **options)


def _sentinel(url: str, options: dict[str, Any]) -> Redis:
    from urllib.parse import unquote, urlsplit

    from redis.sentinel import Sentinel

    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    nodes = [
        (host, int(port or 26379))
        for host, _, port in (node.partition(":") for node in hosts.split(","))
    ]
    service, _, db = parts.path.strip("/").partition("/")
    if login:
        options["password"] = unquote(login.rpartition(":")[2])
    sentinel: Any = Sentinel(nodes, socket_timeout=1.0, socket_connect_timeout=1.0)  # type: ignore[no-untyped-call]
    return cast(
        Redis,
        sentinel.master_for(service, db=int(db or 0), max_connections=MAX_CONNECTIONS, **options),
    )


class JobStore:
    """Create, claim, append, finish, requeue, cancel, read. Safe to share between threads.

    `retention` and `lease` are in seconds.
    Every method raises `StoreUnavailable` when Redis does not answer.
    """

    def __init__(
        self,
        redis: Redis,
        prefix: str = "truthgpt",
        *,
        retention: int = 24 * 3600,
        lease: float = 15.0,
    ) -> None:
        self.redis = redis
        self.keys = Keys(prefix)
        self.retention = retention
        self.lease = lease
        self._memory = MemoryGuard(redis)
        self._courier = Courier(redis)
        horizon = 2 * (MAX_EXPIRES_IN + retention)
        self._common = (prefix, horizon)
        self._scripts = {
            path.stem: redis.register_script(_script(path))
            for path in _LUA.glob("*.lua")
            if path.stem not in _LIBRARIES
        }

    # -- the API's side

    def create(
        self,
        job: NewJob,
        *,
        max_queued: int,
        tenant_max: int | None = None,
        urgent: bool = False,
        known: Result | None = None,
    ) -> Created:
        """Take a job in, if fewer than `max_queued` jobs wait for its model, `tenant_max` of its tenant's.

        One that can be `share`d ends at once with a result that is there already (`known` to the caller
        or to the store), and otherwise waits for a job that works on the same. An `urgent` one is refused
        with `ModelUnavailable` while the model's breaker would let it wait.
        Raises `QueueFull`, `DeadlineUnreachable`, `IdempotencyMismatch`, `StoreUnavailable`.
        """
        self._memory.admit()
        digest = ""
        if job.idempotency_key is not None:
            digest = hashlib.sha256(job.idempotency_key.encode()).hexdigest()
        # fmt: off
        reply = self._call(
            "create", job.id, job.model, job.tenant, job.priority, job.cost,
            int(job.expires_in * 1000), self.retention, max_queued,
            digest, job.body_digest, IDEMPOTENCY_TTL, int(urgent), tenant_max or UNBOUNDED,
            *(job.share.packed if job.share is not None else ("", 0)),
            *((known.output, known.usage) if known is not None else ("", "")),
            "request", job.request,
            *(("metadata", msgspec.json.encode(job.metadata)) if job.metadata else ()),
            *(("traceparent", job.traceparent) if job.traceparent else ()),
            *(("request_id", job.request_id) if job.request_id else ()),
            *(("home", job.home) if job.home else ()),
            *(("fallback_from", job.fallback_from) if job.fallback_from else ()),
            *(("webhook", job.webhook) if job.webhook else ()),
        )
        # fmt: on
        match reply[0]:
            case b"created":
                return Created(job.id, int(reply[2]), bool(reply[1]))
            case b"follows":
                return Created(job.id, int(reply[2]), ring=False, follows=True)
            case b"cached":
                result = Result(reply[2], reply[3])
                return Created(job.id, int(reply[1]), ring=False, result=result)
            case b"replayed":
                return Created(reply[1].decode(), 0, ring=False, replayed=True)
            case b"mismatch":
                raise IdempotencyMismatch(
                    "The Idempotency-Key was used before with another body. Use a new key, "
                    "or send the body of the first request."
                )
        raise _refused(job, reply)

    def get(self, job_id: str, tenant: str = ANY_TENANT) -> Record:
        """A job of this tenant. Raises `JobNotFound`, also for a job of somebody else."""
        if not JOB_ID.fullmatch(job_id):
            raise JobNotFound(job_id)
        reply = self._call("get", job_id, tenant)
        if not reply:
            raise JobNotFound(job_id)
        position, start = int(reply[0]), int(reply[1])
        return Record(
            _fields(reply[2:]), position if position >= 0 else None, start if start >= 0 else None
        )

    def listing(
        self,
        tenant: str,
        *,
        state: JobState | None = None,
        model: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> tuple[list[Record], str | None]:
        """A tenant's jobs, newest first, and the cursor of the next page if there may be one.

        Raises `InvalidRequest` for a cursor that no listing gave.
        """
        if cursor is not None and not JOB_ID.fullmatch(cursor):
            raise InvalidRequest(
                "The cursor is not one that a listing gave.", code="invalid_cursor"
            )
        found: list[Record] = []
        index, scanned = self.keys("index", tenant), 0
        while scanned < LIST_SCAN:
            top = f"({cursor}" if cursor else "+"
            with _reachable():
                page = cast(
                    list[bytes],
                    self.redis.zrevrangebylex(index, top, "-", start=0, num=100),
                )
                pipe = self.redis.pipeline(transaction=False)
                for job_id in page:
                    pipe.hgetall(self.keys("job", job_id.decode()))
                hashes = pipe.execute()
            for job_id, raw in zip(page, hashes, strict=True):
                cursor = job_id.decode()
                if not raw:
                    continue
                record = Record({k.decode(): v.decode() for k, v in raw.items()})
                if state not in (None, record.state) or model not in (None, record.fields["model"]):
                    continue
                found.append(record)
                if len(found) == limit:
                    return found, cursor
            if len(page) < 100:
                return found, None
            scanned += len(page)
        return found, cursor

    def cancel(self, job_id: str, tenant: str = ANY_TENANT) -> JobState:
        """Cancel a waiting job, or ask the worker of a running one. Raises `JobNotFound`."""
        if not JOB_ID.fullmatch(job_id):
            raise JobNotFound(job_id)
        state = self._call("cancel", job_id, tenant, self.retention).decode()
        if state == "missing":
            raise JobNotFound(job_id)
        return JobState(state)

    def dead(self, tenant: str, limit: int = 100) -> list[Record]:
        """The newest jobs of a tenant that failed for no fault of their input: the dead letters."""
        key = self.keys("dead", tenant)
        with _reachable():
            newest = cast(list[bytes], self.redis.zrevrange(key, 0, limit - 1))
        found, gone = [], []
        for job_id in newest:
            try:
                found.append(self.get(job_id.decode(), tenant))
            except JobNotFound:
                gone.append(job_id)
        if gone:
            with _reachable():
                self.redis.zrem(key, *gone)
        return found

    def retry(
        self, job_id: str, tenant: str, *, max_queued: int, tenant_max: int | None = None
    ) -> Created:
        """Run a failed job's request once more, as a new job whose metadata names the old one.

        Asking twice makes one job. Raises `JobNotFound`, `JobNotFailed`, and what `create` raises.
        """
        record = self.get(job_id, tenant)
        if record.state is not JobState.FAILED:
            raise JobNotFailed(f"The job is {record.state}; only failed jobs can be tried again.")
        fields = record.fields
        with _reachable():
            request, webhook = cast(
                Any, self.redis.hmget(self.keys("job", job_id), "request", "webhook")
            )
        lifetime = (int(fields["deadline"]) - int(fields["created"])) / 1000
        metadata = (_json(fields.get("metadata")) or {}) | {"retry_of": job_id}
        again = NewJob(
            id=new_job_id(),
            model=fields["model"],
            tenant=tenant,
            request=request or b"",
            priority=cast(Any, fields["class"]),
            cost=int(fields["cost"]),
            expires_in=lifetime,
            metadata=metadata,
            traceparent=context.traceparent(),
            request_id=fields.get("request_id", ""),
            webhook=(webhook or b"").decode(),
            idempotency_key=f"retry {job_id}",
            body_digest="retry",
        )
        created = self.create(again, max_queued=max_queued, tenant_max=tenant_max)
        with _reachable():
            self.redis.zrem(self.keys("dead", tenant), job_id)
        return created

    def delete(self, job_id: str, tenant: str) -> Record:
        """Forget a terminal job and its events. Returns what it was.

        Raises `JobNotFound`, `JobNotTerminal`.
        """
        record = self.get(job_id, tenant)
        if not record.terminal:
            raise JobNotTerminal(f"The job is {record.state}. Cancel it first, or wait.")
        with _reachable():
            pipe = self.redis.pipeline(transaction=True)
            pipe.delete(self.keys("job", job_id), self.keys("log", job_id))
            # What was to be told of the job holds its output.
            pipe.delete(*(self.keys("delivery", name) for name in delivery_ids(job_id)))
            pipe.zrem(self.keys("index", tenant), job_id)
            pipe.execute()
        return record

    def status(self, model: str) -> ModelStatus:
        """A model's queue depth, running jobs, live workers and breaker."""
        with _reachable():
            pipe = self.redis.pipeline(transaction=False)
            pipe.hget(self.keys("queue", model), "depth")
            pipe.zcard(self.keys("leases", model))
            pipe.hgetall(self.keys("workers", model))
            pipe.hgetall(self.keys("breaker", model))
            pipe.time()
            depth, running, reports, breaker, moment = pipe.execute()
        now = moment[0] * 1000 + moment[1] // 1000
        workers = {}
        for name, report in reports.items():
            expiry, _, document = report.partition(b" ")
            if int(expiry) >= now:
                workers[name.decode()] = _JSON.decode(document)
        return ModelStatus(int(depth or 0), running, workers, Breaker.parse(breaker).status(now))

    def reset_breaker(self, model: str) -> None:
        """Close a model's breaker and those of its workers."""
        self._call("breaker_reset", model)

    def ping(self) -> None:
        """Raise `StoreUnavailable` unless Redis answers."""
        with _reachable():
            self.redis.ping()

    # -- the worker's side

    def claim(
        self,
        model: str,
        room: int,
        worker: str,
        *,
        drain: str = "",
        drain_ttl: float = 15.0,
        budget: float = CLAIM_BUDGET,
    ) -> Claimed:
        """Up to `room` jobs in fair order, each with a new attempt and a lease.

        With no room nothing is claimed; the answer still tells whether another worker must be rung.
        """
        # fmt: off
        reply = self._call(
            "claim", model, room, int(budget), worker, drain, int(drain_ttl * 1000),
            int(self.lease * 1000), self.retention, secrets.token_hex(8),
        )
        # fmt: on
        now = int(reply[0])
        claims = [_claim(row, now) for row in reply[5:]]
        return Claimed(
            claims, int(reply[1]), reply[2] / 1000, _change(reply[3]), ring=bool(reply[4])
        )

    def write(self, writes: Sequence[Write]) -> list[int]:
        """Carry out appends, finishes and requeues in order, in one round trip.

        Returns a number each: 0 the attempt is fenced (another one, or nobody, owns the job now),
        1 done, 2 done and a cancel is waiting, 3 (requeue) done and a doorbell is wanted,
        4 (requeue) done, and the retry waits for the model's retry budget, -1 refused because an
        earlier event is missing.
        """
        return self.settle(writes, None, "").results

    def settle(self, writes: Sequence[Write], policy: BreakerPolicy | None, worker: str) -> Settled:
        """`write`, and count in the same call what the ends say of the model to its breaker."""
        values: list[Any] = []
        for item in writes:
            if isinstance(item, Append):
                values += [
                    "append",
                    item.id,
                    item.attempt,
                    item.seq,
                    item.kind,
                    item.data,
                    item.tokens,
                ]
            elif isinstance(item, Finish):
                values += ["finish", item.id, item.attempt, item.state]
                values += [item.output, item.error, item.usage, int(item.dead), item.verdict]
            else:
                values += ["requeue", item.id, item.attempt, int(item.delay * 1000)]
                values += [item.charge, item.reason, round(item.device_seconds * 1e6)]
                values.append(item.verdict)
        packed = policy.packed if policy is not None else ""
        change, *results = self._call("write", self.retention, packed, worker, *values)
        return Settled(results, _change(change))

    def host_lost(self, model: str, policy: BreakerPolicy, worker: str) -> tuple[str, str] | None:
        """Count for the model's breaker that an engine host was lost which held nobody.

        Returns what the breaker was and is, when it changed.
        """
        token = secrets.token_hex(8)
        return _change(self._call("breaker_lost", model, policy.packed, worker, token))

    def beat(
        self,
        model: str,
        worker: str,
        report: bytes,
        held: Sequence[tuple[str, int]],
        *,
        drain: str = "",
        drain_ttl: float = 15.0,
    ) -> Beat:
        """Renew a worker's leases, drain and report (b"" signs the worker off)."""
        flat = [part for pair in held for part in pair]
        # fmt: off
        waiting, *results = self._call(
            "beat", model, worker, report, int(self.lease * 1000), drain, int(drain_ttl * 1000), *flat,
        )
        # fmt: on
        return Beat(waiting, results)

    def park(self, attempts: Sequence[tuple[str, int]], *, parked: bool) -> None:
        """Say of (job id, attempt) pairs that their worker holds them without running them, or no longer.

        Should the worker die meanwhile, they are not charged a crash.
        """
        flat = [part for pair in attempts for part in pair]
        if flat:
            self._call("park", int(parked), *flat)

    def sign_off(self, model: str, drain: str, *, force: bool = False) -> tuple[bool, bool]:
        """Take a drain off the register unless jobs wait. Returns (signed off, doorbell wanted)."""
        done, ring = self._call("sign_off", model, drain, int(force))
        return bool(done), bool(ring)

    def streamed(self, job_id: str) -> tuple[str, tuple[int, ...], bool]:
        """What earlier attempts of a job have streamed since the last reset.

        Returns the text, its token ids, and whether anything else (an engine's own output) was sent.
        """
        text: list[str] = []
        tokens: list[int] = []
        other = False
        with _reachable():
            entries = cast(list[Any], self.redis.xrange(self.keys("log", job_id)))
        for _, entry in entries:
            kind = entry[b"e"]
            if kind == b"reset":
                text, tokens, other = [], [], False
            elif kind == b"token":
                text.append(_JSON.decode(entry[b"d"])["text"])
                tokens += map(int, entry[b"t"].split(b",")) if entry.get(b"t") else ()
            elif kind == b"output":
                other = True
        return "".join(text), tuple(tokens), other

    # -- the rescuer's side

    def models(self) -> list[str]:
        """The models that have had jobs within the horizon."""
        with _reachable():
            return [
                name.decode()
                for name in cast(list[bytes], self.redis.zrange(self.keys("models"), 0, -1))
            ]

    def rescue(self, model: str, limit: int = 100) -> Rescued:
        """Put right what dead workers, lost doorbells and passed deadlines left of a model's jobs."""
        reply = self._call("rescue", model, limit, self.retention)
        requeued, failed, due, expired, ring = map(int, reply)
        return Rescued(requeued, failed, due, expired, bool(ring))

    def lock_rescue(self, owner: str, seconds: float) -> bool:
        """Whether `owner` may rescue now: one rescuer at a time spares the others' work."""
        with _reachable():
            key = self.keys("rescuer")
            if self.redis.set(key, owner, nx=True, px=int(seconds * 1000)):
                return True
            if self.redis.get(key) == owner.encode():
                self.redis.pexpire(key, int(seconds * 1000))
                return True
        return False

    def rescued_lately(self) -> bool:
        """Whether some rescuer holds the lock, which lapses seconds after its last round."""
        with _reachable():
            return bool(self.redis.exists(self.keys("rescuer")))

    # -- calling Redis

    def call(self, script: str, *args: Any) -> Any:
        """Run a script of shared/lua for another store on the same keys."""
        return self._call(script, *args)

    def _call(self, name: str, *args: Any) -> Any:
        with _reachable():
            return self._courier.call(self._scripts[name], (*self._common, *args))


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except OutOfMemoryError as error:
        raise StoreUnavailable("Redis takes no writes now (memory is full).") from error
    except (RedisConnectionError, RedisTimeoutError, BusyLoadingError, ReadOnlyError) as error:
        if isinstance(error, AuthenticationError):
            raise StoreUnavailable("Redis refuses the credentials in REDIS_URL.") from error
        raise StoreUnavailable("Redis did not answer. Try again in a moment.") from error
    except ResponseError as error:
        if "OOM" in str(error) or "MISCONF" in str(error):
            # As a script's own error these come without a class of their own.
            raise StoreUnavailable("Redis takes no writes now (memory or disk is full).") from error
        raise
    except RedisError as error:
        raise StoreUnavailable("Redis did not answer. Try again in a moment.") from error


reachable = _reachable
"""Turns every fault of Redis into `StoreUnavailable`, for other stores on the same keys."""


def _script(path: Path) -> str:
    """A script's whole text: generated tables, the shared functions, its own body."""
    return "\n".join(
        (
            "local PREFIX, HORIZON = ARGV[1], tonumber(ARGV[2])",
            f"local TRANSITIONS = {lua_table()}",
            f"local GAMMA = {GAMMA}",
            lua_functions(),
            *((_LUA / f"{name}.lua").read_text("utf-8") for name in _LIBRARIES),
            path.read_text("utf-8"),
        )
    )


def _claim(row: list[bytes], now: int) -> Claim:
    return Claim(
        id=row[0].decode(),
        attempt=int(row[1]),
        tenant=row[2].decode(),
        request=row[3],
        deadline=max(0.0, (int(row[4]) - now) / 1000),
        created_ms=int(row[5]),
        claimed_ms=now,
        failures=int(row[6]),
        crashes=int(row[7]),
        traceparent=row[9].decode(),
        request_id=row[10].decode(),
        device_seconds=int(row[11] or 0) / 1e6,
        estimate_error=(now - int(row[12])) / 1000 if row[12] and row[1] == b"1" else None,
    )


def _change(said: bytes) -> tuple[str, str] | None:
    old, _, new = said.decode().partition(" ")
    return (old, new) if new else None


def _refused(job: NewJob, reply: list[Any]) -> TryLater:
    """Why a job is not taken: the reply of `create`, with when to come again."""
    seconds = math.ceil(reply[1] / 1000)
    retry_after = min(seconds, MOST_WAIT) if seconds else UNKNOWN_WAIT
    match reply[0]:
        case b"unavailable":
            return ModelUnavailable(
                f"{job.model} fails at the moment and is tried again in {seconds} s.", seconds
            )
        case b"deadline":
            return DeadlineUnreachable(
                f"The job would wait about {math.ceil(reply[2] / 1000)} s and expires in "
                f"{job.expires_in:g} s.",
                retry_after,
            )
        case b"tenant_queue_full":
            return QueueFull(
                f"{reply[2]} of your jobs wait for {job.model}, and no more may.",
                retry_after,
                code="tenant_queue_full",
            )
    return QueueFull(f"{reply[2]} jobs wait for {job.model}, and no more may.", retry_after)


def _fields(flat: list[bytes]) -> dict[str, str]:
    return {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}


def _moment(value: str | None) -> str | None:
    return rfc3339(int(value)) if value else None


def _json(value: str | None) -> Any:
    return _JSON.decode(value) if value else None
