"""Making jobs, and charging their clients: what becomes of each is a value (shared/domain/creation.py)."""

import math
from typing import Any, cast

import msgspec

from shared import context
from shared.domain.creation import (
    Cached,
    Created,
    Followed,
    Limited,
    Mismatched,
    Outcome,
    Reason,
    Refused,
    Replayed,
    Stored,
)
from shared.domain.errors import InputGone, JobNotFailed
from shared.domain.quotas import ClientCharges, Decision
from shared.domain.records import NewJob, new_job_id, own_key
from shared.domain.sharing import Result
from shared.domain.states import JobState
from shared.redis.connection import reachable
from shared.store.jobs.calls import UNBOUNDED
from shared.store.jobs.reading import Reading
from shared.store.keys import key_digest
from shared.store.lua_constants import ASKED_BYTES
from shared.store.rate_limits import decided, packed

UNKNOWN_WAIT = 5
"""Seconds to try again after, while nothing is known of how fast a queue drains."""
MOST_WAIT = 3600
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class Creation(Reading):
    """Makes jobs, and makes failed ones again."""

    def create(
        self,
        job: NewJob,
        *,
        max_queued: int,
        tenant_max: int | None = None,
        max_bytes: int | None = None,
        urgent: bool = False,
        known: Result | None = None,
        charges: ClientCharges | None = None,
        reply_channel: str = "",
    ) -> Outcome:
        """Take a job in, if fewer than `max_queued` jobs wait for its model, `tenant_max` of its tenant's.

        And only while its tenant makes Redis hold less than `max_bytes`; 0: however much, None: half of what
        Redis may take.
        One that can be `share`d ends at once with a result that is there already (`known` to the caller
        or to the store), and otherwise waits for a job that works on the same. An `urgent` one is refused
        while the model's breaker would let it wait. Its client is charged in the same call, whatever becomes
        of the job; the outcome says how it stands. `reply_channel` names that of a process which waits for
        the job's end (`shared.store.events.EventHub`). Raises `StoreUnavailable`.
        """
        most = self._memory.admit()
        if max_bytes is not None:
            most = int(max_bytes)
        digest = ""
        if job.idempotency_key is not None:
            digest = key_digest(job.idempotency_key)
        share, speaks = job.share.packed if job.share is not None else ("", False)
        # fmt: off
        # Texts, all of them: Redis' msgpack knows no bytes.
        fields: tuple[str, ...] = (
            "model", job.model, "tenant", job.tenant, "class", job.priority, "cost", str(job.cost),
            *(("share", share) if share else ()),
            *(("metadata", msgspec.json.encode(job.metadata).decode()) if job.metadata else ()),
            *(("traceparent", job.traceparent) if job.traceparent else ()),
            *(("request_id", job.request_id) if job.request_id else ()),
            *(("home", reply_channel) if reply_channel else ()),
            *(("fallback_from", job.fallback_from) if job.fallback_from else ()),
            *(("webhook", job.webhook) if job.webhook else ()),
            *(("told_as", job.told_as) if job.told_as else ()),
            *(("keep", "1") if job.keeps_request else ()),
        )
        reply = _unpack(self._call_for("create", _pack((
            job.id, int(job.expires_in * 1000), max_queued,
            digest, job.body_digest, job.key_ttl, urgent, tenant_max or UNBOUNDED,
            speaks, *((known.output.decode(), known.usage.decode()) if known is not None else ("", "")),
            msgspec.Raw(packed(charges)) if charges is not None else False,
            job.request.decode(), share, bool(reply_channel), most, _footprint(job),
            job.takes_key, int(job.joins * 1000), job.asked.decode(), fields,
        ))))
        # fmt: on
        quota = None
        if charges is not None:
            rows = reply.pop()
            quota = decided(charges.charges, reply[0] != "limited", rows)
        return _outcome(job, reply, quota, most)

    def retry(
        self,
        job_id: str,
        tenant: str,
        *,
        max_queued: int,
        tenant_max: int | None = None,
        max_bytes: int | None = None,
    ) -> Outcome:
        """Run a failed job's request once more, as a new job whose metadata names the old one.

        Asking twice makes one job. Raises `JobNotFound`, `JobNotFailed`, `StoreUnavailable`, and `InputGone`
        for one whose input was at fault.
        """
        record = self.get(job_id, tenant)
        if record.state is not JobState.FAILED:
            raise JobNotFailed(f"The job is {record.state}; only failed jobs can be tried again.")
        fields = record.fields
        with reachable():
            pipe = self.redis.pipeline(transaction=False)
            pipe.get(self.keys("request", job_id))
            pipe.hget(self.keys("job", job_id), "webhook")
            pipe.get(self.keys("asked", job_id))
            request, webhook, asked = pipe.execute()
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
            asked=asked or b"",
            keeps_request="keep" in fields,
        )
        outcome = self.create(
            again, max_queued=max_queued, tenant_max=tenant_max, max_bytes=max_bytes
        )
        if isinstance(outcome, Stored):
            with reachable():
                self.redis.zrem(self.keys("dead", tenant), job_id)
        return outcome

    @property
    def tenants_share(self) -> int:
        """Bytes that one tenant may store where nothing else is said; 0 while that is not known."""
        return self._memory.one_tenants


def _footprint(job: NewJob) -> int:
    """Bytes that the job takes in Redis beside what every job does."""
    metadata = sum(len(name) + len(value) for name, value in job.metadata.items())
    asked = ASKED_BYTES + len(job.asked) if job.asked else 0
    return len(job.request) + len(job.webhook) + metadata + asked + job.expected


def _outcome(job: NewJob, reply: list[Any], quota: Decision | None, most: int) -> Outcome:
    """A reply of create.lua, whose head says what became of the job."""
    match reply[0]:
        case "created":
            position, start = reply[3:] or (None, -1)
            # fmt: off
            return Created(
                job.id, int(reply[2]), bool(reply[1]), position, start if start >= 0 else None, quota
            )
            # fmt: on
        case "follows":
            return Followed(job.id, int(reply[2]), quota)
        case "cached":
            result = Result(reply[2].encode(), reply[3].encode())
            return Cached(job.id, int(reply[1]), result, quota)
        case "replayed":
            return Replayed(reply[1], quota)
        case "mismatch":
            return Mismatched(reply[1], quota)
        case "limited":
            assert quota is not None
            return Limited(job.id, quota)
    return _refused(job, reply, quota, most)


def _refused(job: NewJob, reply: list[Any], quota: Decision | None, most: int) -> Refused:
    """Why a job is not taken, and when to come again."""
    kind, seconds = reply[0], math.ceil(reply[1] / 1000)
    retry_after = min(seconds, MOST_WAIT) if seconds else UNKNOWN_WAIT
    match kind:
        case "unavailable":
            reason, retry_after = Reason.MODEL_UNAVAILABLE, seconds
            detail = f"{job.model} fails at the moment and is tried again in {seconds} s."
        case "deadline":
            reason = Reason.DEADLINE_UNREACHABLE
            detail = (
                f"The job would wait about {math.ceil(reply[2] / 1000)} s and expires in "
                f"{job.expires_in:g} s."
            )
        case "tenant_queue_full":
            reason = Reason.TENANT_QUEUE_FULL
            detail = f"{reply[2]} of your jobs wait for {job.model}, and no more may."
        case "storage_full":
            # Exact, however long it takes: nothing else tells a tenant when it may go on.
            reason, retry_after = Reason.STORAGE_QUOTA_EXCEEDED, seconds or UNKNOWN_WAIT
            detail = (
                f"Your jobs, their inputs and results take {int(reply[2]):,} bytes here, and {most:,} may "
                f"be taken. Room comes in {retry_after} s, or at once when you delete jobs that have ended."
            )
        case _:
            reason = Reason.QUEUE_FULL
            detail = f"{reply[2]} jobs wait for {job.model}, and no more may."
    return Refused(job.id, reason, detail, retry_after, quota)
