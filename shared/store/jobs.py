"""The job store: the only writer of job state, and the queue itself.

Each transition is one Lua call (shared/lua), fenced by the attempt number and timed by Redis. Every
call may be repeated with the same arguments without a second effect, because clients retry.
Protocol and state machine: docs/job_lifecycle.md.
"""

import hashlib
import math
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

import msgspec
from redis import Redis

from shared import context
from shared.domain.errors import (
    DeadlineUnreachable,
    IdempotencyMismatch,
    InputGone,
    InvalidRequest,
    JobNotFailed,
    JobNotFound,
    JobNotTerminal,
    ModelUnavailable,
    QueueFull,
    StorageQuotaExceeded,
    TryLater,
)
from shared.domain.records import (
    JOB_ID,
    Append,
    Beat,
    Claim,
    Claimed,
    Created,
    Finish,
    ModelStatus,
    NewJob,
    Record,
    Rescued,
    Settled,
    Write,
    delivery_ids,
    new_job_id,
    own_key,
)
from shared.domain.sharing import Result
from shared.domain.states import JobState
from shared.redis.connection import reachable
from shared.redis.guard import MemoryGuard
from shared.redis.script_pipeline import ScriptPipeline
from shared.store.breaker import Breaker, BreakerPolicy
from shared.store.keys import Keys
from shared.store.scripts import RETENTION, scripts

ANY_TENANT = "*"
IDEMPOTENCY_TTL = 24 * 3600
CLAIM_BUDGET = 2**53
CLAIM_VALUES = 12
"""Of one job in the reply of claim.lua."""
UNBOUNDED = 2**53
UNKNOWN_WAIT = 5
"""Seconds to try again after, while nothing is known of how fast a queue drains."""
MOST_WAIT = 3600
LIST_SCAN = 2_000
_unpack = msgspec.msgpack.Decoder().decode


class Charging(Protocol):
    """What a new job's client is charged for it (shared/store/rate_limits.py), and what becomes of that."""

    packed: bytes

    def told(self, admitted: bool, rows: Sequence[int]) -> None:
        """Whether there was room, and how the client stands. Raises where there was none."""


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
        retention: int = RETENTION,
        lease: float = 15.0,
    ) -> None:
        self.redis = redis
        self.keys = Keys(prefix)
        self.retention = retention
        self.lease = lease
        self._memory = MemoryGuard(redis)
        self._courier = ScriptPipeline(redis)
        self._scripts = {
            name: redis.register_script(text) for name, text in scripts(prefix, retention)
        }

    # -- the API's side

    def create(
        self,
        job: NewJob,
        *,
        max_queued: int,
        tenant_max: int | None = None,
        max_bytes: int | None = None,
        urgent: bool = False,
        known: Result | None = None,
        charging: Charging | None = None,
    ) -> Created:
        """Take a job in, if fewer than `max_queued` jobs wait for its model, `tenant_max` of its tenant's.

        And only while its tenant makes Redis hold less than `max_bytes`; 0: however much, None: half of what
        Redis may take.
        One that can be `share`d ends at once with a result that is there already (`known` to the caller
        or to the store), and otherwise waits for a job that works on the same. An `urgent` one is refused
        with `ModelUnavailable` while the model's breaker would let it wait. Its client is charged in the same
        call; whatever else becomes of the request, `charging` is told, and may raise.
        Raises `QueueFull`, `StorageQuotaExceeded`, `DeadlineUnreachable`, `IdempotencyMismatch`,
        `StoreUnavailable`.
        """
        self._memory.admit()
        most = self._memory.one_tenants if max_bytes is None else int(max_bytes)
        digest = ""
        if job.idempotency_key is not None:
            digest = hashlib.sha256(job.idempotency_key.encode()).hexdigest()
        share, speaks = job.share.packed if job.share is not None else ("", 0)
        # fmt: off
        packed = self._call(
            "create", job.id, int(job.expires_in * 1000), self.retention, max_queued,
            digest, job.body_digest, IDEMPOTENCY_TTL, int(urgent), tenant_max or UNBOUNDED,
            speaks, *((known.output, known.usage) if known is not None else ("", "")),
            charging.packed if charging is not None else b"",
            job.request, share, int(bool(job.home)), most, job.footprint,
            "model", job.model, "tenant", job.tenant, "class", job.priority, "cost", job.cost,
            *(("share", share) if share else ()),
            *(("metadata", msgspec.json.encode(job.metadata)) if job.metadata else ()),
            *(("traceparent", job.traceparent) if job.traceparent else ()),
            *(("request_id", job.request_id) if job.request_id else ()),
            *(("home", job.home) if job.home else ()),
            *(("fallback_from", job.fallback_from) if job.fallback_from else ()),
            *(("webhook", job.webhook) if job.webhook else ()),
        )
        # fmt: on
        reply = _unpack(packed)
        if charging is not None:
            *reply, rows = reply
            charging.told(reply[0] != "limited", rows)
        match reply[0]:
            case "created":
                position, start = reply[3:] or (None, -1)
                return Created(
                    job.id,
                    int(reply[2]),
                    bool(reply[1]),
                    position=position,
                    start=start if start >= 0 else None,
                )
            case "follows":
                return Created(job.id, int(reply[2]), ring=False, follows=True)
            case "cached":
                result = Result(reply[2].encode(), reply[3].encode())
                return Created(job.id, int(reply[1]), ring=False, result=result)
            case "replayed":
                return Created(reply[1], 0, ring=False, replayed=True)
            case "mismatch":
                raise IdempotencyMismatch(
                    "The Idempotency-Key was used before with another body. Use a new key, "
                    "or send the body of the first request."
                )
            case "storage_full":
                raise _storage_full(reply, most)
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
            _fields(job_id, reply[2:]),
            position if position >= 0 else None,
            start if start >= 0 else None,
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
            with reachable():
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
                record = Record({"id": cursor, **{k.decode(): v.decode() for k, v in raw.items()}})
                if state not in (None, record.state) or model not in (None, record.fields["model"]):
                    continue
                found.append(record)
                if len(found) == limit:
                    return self._with_outputs(found), cursor
            if len(page) < 100:
                return self._with_outputs(found), None
            scanned += len(page)
        return self._with_outputs(found), cursor

    def _with_outputs(self, records: Sequence[Record]) -> list[Record]:
        """The records, each with the output that it refers to as its own."""
        references = {
            r.id: r.fields["output_of"].split(" ")[0] for r in records if "output_of" in r.fields
        }
        if not references:
            return list(records)
        with reachable():
            pipe = self.redis.pipeline(transaction=False)
            ids = sorted(set(references.values()))
            for output_id in ids:
                pipe.hmget(self.keys("output", output_id), ("output", "usage"))
            rows = dict(zip(ids, pipe.execute(), strict=True))
        return [
            _with_output(record, *rows[references[record.id]])
            if record.id in references
            else record
            for record in records
        ]

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
        with reachable():
            newest = cast(list[bytes], self.redis.zrevrange(key, 0, limit - 1))
        found, gone = [], []
        for job_id in newest:
            try:
                found.append(self.get(job_id.decode(), tenant))
            except JobNotFound:
                gone.append(job_id)
        if gone:
            with reachable():
                self.redis.zrem(key, *gone)
        return found

    def retry(
        self,
        job_id: str,
        tenant: str,
        *,
        max_queued: int,
        tenant_max: int | None = None,
        max_bytes: int | None = None,
    ) -> Created:
        """Run a failed job's request once more, as a new job whose metadata names the old one.

        Asking twice makes one job. Raises `JobNotFound`, `JobNotFailed`, `InputGone` for one whose input was
        at fault, and what `create` raises.
        """
        record = self.get(job_id, tenant)
        if record.state is not JobState.FAILED:
            raise JobNotFailed(f"The job is {record.state}; only failed jobs can be tried again.")
        fields = record.fields
        with reachable():
            pipe = self.redis.pipeline(transaction=False)
            pipe.get(self.keys("request", job_id))
            pipe.hget(self.keys("job", job_id), "webhook")
            request, webhook = pipe.execute()
        if request is None:
            raise InputGone("The input was at fault, so it is no longer kept. Submit another one.")
        lifetime = (int(fields["deadline"]) - int(fields["created"])) / 1000
        metadata = msgspec.json.decode(fields.get("metadata", "{}")) | {"retry_of": job_id}
        again = NewJob(
            id=new_job_id(),
            model=fields["model"],
            tenant=tenant,
            request=request,
            priority=cast(Any, fields["class"]),
            cost=int(fields["cost"]),
            expires_in=lifetime,
            metadata=metadata,
            traceparent=context.traceparent(),
            request_id=fields.get("request_id", ""),
            webhook=(webhook or b"").decode(),
            idempotency_key=own_key("retry", job_id),
            body_digest="retry",
        )
        created = self.create(
            again, max_queued=max_queued, tenant_max=tenant_max, max_bytes=max_bytes
        )
        with reachable():
            self.redis.zrem(self.keys("dead", tenant), job_id)
        return created

    def delete(self, job_id: str, tenant: str) -> Record:
        """Forget a terminal job and its events. Returns what it was.

        Raises `JobNotFound`, `JobNotTerminal`.
        """
        record = self.get(job_id, tenant)
        if not record.terminal:
            raise JobNotTerminal(f"The job is {record.state}. Cancel it first, or wait.")
        self._call("delete", job_id, tenant, *delivery_ids(job_id))
        return record

    @property
    def tenants_share(self) -> int:
        """Bytes that one tenant may store where nothing else is said; 0 while that is not known."""
        return self._memory.one_tenants

    def held_bytes(self, tenant: str) -> int:
        """How many bytes a tenant makes Redis hold."""
        with reachable():
            found = cast(Any, self.redis.hgetall(self.keys("bytes", tenant)))
            now = cast(Any, self.redis.time())[0]
        parts = ((name, int(value)) for name, value in found.items() if name.isdigit())
        return max(0, sum(value for name, value in parts if int(name) > now))

    def status(self, model: str) -> ModelStatus:
        """A model's queue depth, running jobs, live workers and breaker."""
        with reachable():
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
                workers[name.decode()] = msgspec.json.decode(document)
        return ModelStatus(int(depth or 0), running, workers, Breaker.parse(breaker).status(now))

    def reset_breaker(self, model: str) -> None:
        """Close a model's breaker and those of its workers."""
        self._call("breaker_reset", model)

    def ping(self) -> None:
        """Raise `StoreUnavailable` unless Redis answers."""
        with reachable():
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
        claims = [
            _claim(reply[start : start + CLAIM_VALUES], now)
            for start in range(5, len(reply), CLAIM_VALUES)
        ]
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
                values += [item.output, item.error, item.usage, int(item.dead)]
                values += [item.verdict, item.seq]
            else:
                values += ["requeue", item.id, item.attempt, int(item.delay * 1000)]
                values += [item.charge, item.reason, round(item.device_seconds * 1e6)]
                values += [item.verdict, item.seq]
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

    def sign_off(
        self, model: str, worker: str, drain: str, *, force: bool = False
    ) -> tuple[bool, bool]:
        """Take a drain off the register unless jobs wait. Returns (signed off, doorbell wanted)."""
        done, ring = self._call("sign_off", model, worker, drain, int(force))
        return bool(done), bool(ring)

    def streamed(self, job_id: str) -> tuple[str, tuple[int, ...], bool]:
        """What earlier attempts of a job have streamed since the last reset.

        Returns the text, its token ids, and whether anything else (an engine's own output) was sent.
        """
        text: list[str] = []
        tokens: list[int] = []
        other = False
        with reachable():
            entries = cast(list[Any], self.redis.xrange(self.keys("log", job_id)))
        for _, entry in entries:
            kind = entry[b"e"]
            if kind == b"reset":
                text, tokens, other = [], [], False
            elif kind == b"token":
                text.append(msgspec.json.decode(entry[b"d"])["text"])
                tokens += map(int, entry[b"t"].split(b",")) if entry.get(b"t") else ()
            elif kind == b"output":
                other = True
        return "".join(text), tuple(tokens), other

    # -- the rescuer's side

    def models(self) -> list[str]:
        """The models that have had jobs within the horizon."""
        with reachable():
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
        with reachable():
            key = self.keys("rescuer")
            if self.redis.set(key, owner, nx=True, px=int(seconds * 1000)):
                return True
            if self.redis.get(key) == owner.encode():
                self.redis.pexpire(key, int(seconds * 1000))
                return True
        return False

    def rescued_lately(self) -> bool:
        """Whether some rescuer holds the lock, which lapses seconds after its last round."""
        with reachable():
            return bool(self.redis.exists(self.keys("rescuer")))

    # -- calling Redis

    def watch(self, around: Callable[[], AbstractContextManager[object]]) -> None:
        """Make every script call inside a context of its own."""
        self._courier.around = around

    def call(self, script: str, *args: Any) -> Any:
        """Run a script of shared/lua for another store on the same keys."""
        return self._call(script, *args)

    def _call(self, name: str, *args: Any) -> Any:
        with reachable():
            return self._courier.call(self._scripts[name], args)


def _claim(row: list[bytes], now: int) -> Claim:
    return Claim(
        id=row[0].decode(),
        attempt=int(row[1]),
        tenant=row[2].decode(),
        request=row[11],
        deadline=max(0.0, (int(row[3]) - now) / 1000),
        created_ms=int(row[4]),
        claimed_ms=now,
        failures=int(row[5] or 0),
        crashes=int(row[6] or 0),
        traceparent=row[7].decode(),
        request_id=row[8].decode(),
        device_seconds=int(row[9] or 0) / 1e6,
        estimate_error=(now - int(row[10])) / 1000 if row[10] and int(row[1]) == 1 else None,
    )


def _change(said: bytes) -> tuple[str, str] | None:
    old, _, new = said.decode().partition(" ")
    return (old, new) if new else None


def _refused(job: NewJob, reply: list[Any]) -> TryLater:
    """Why a job is not taken: the reply of `create`, with when to come again."""
    seconds = math.ceil(reply[1] / 1000)
    retry_after = min(seconds, MOST_WAIT) if seconds else UNKNOWN_WAIT
    match reply[0]:
        case "unavailable":
            return ModelUnavailable(
                f"{job.model} fails at the moment and is tried again in {seconds} s.", seconds
            )
        case "deadline":
            return DeadlineUnreachable(
                f"The job would wait about {math.ceil(reply[2] / 1000)} s and expires in "
                f"{job.expires_in:g} s.",
                retry_after,
            )
        case "tenant_queue_full":
            return QueueFull(
                f"{reply[2]} of your jobs wait for {job.model}, and no more may.",
                retry_after,
                code="tenant_queue_full",
            )
    return QueueFull(f"{reply[2]} jobs wait for {job.model}, and no more may.", retry_after)


def _storage_full(reply: list[Any], most: int) -> StorageQuotaExceeded:
    """Exact, however long it takes: nothing else tells a tenant when it may go on."""
    seconds, held = math.ceil(reply[1] / 1000) or UNKNOWN_WAIT, int(reply[2])
    return StorageQuotaExceeded(
        f"Your jobs, their inputs and results take {held:,} bytes here, and {most:,} may be taken. Room "
        f"comes in {seconds} s, or at once when you delete jobs that have ended.",
        seconds,
    )


def _with_output(record: Record, output: bytes | None, usage: bytes | None) -> Record:
    fields = {"usage": (usage or b"").decode(), **record.fields}
    return Record({**fields, "output": (output or b"").decode()}, record.position, record.start)


def _fields(job_id: str, flat: list[bytes]) -> dict[str, str]:
    pairs = ((flat[i].decode(), flat[i + 1].decode()) for i in range(0, len(flat), 2))
    return {"id": job_id, **dict(pairs)}
