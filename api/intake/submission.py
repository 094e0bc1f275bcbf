"""Taking a job in: request → checked → stored → its model's doorbell rung → perhaps waited for."""

import hashlib
import random
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from api.http import request_context, requests
from api.http.answers import Links, job_json, links
from api.http.auth import client, tenant
from api.http.limits.charging import admit_tokens, charging
from api.http.sse.connection import Connection
from api.intake import cost
from api.intake.subscriptions import subscription
from api.services import Services, services
from shared import context
from shared.domain.catalog import ModelSpec
from shared.domain.errors import (
    InputRefused,
    InvalidRequest,
    ModelUnavailable,
    StorageQuotaExceeded,
    StoreUnavailable,
    TryLater,
)
from shared.domain.params import told
from shared.domain.records import Created, NewJob, Record, new_job_id
from shared.domain.schemas import DEFAULT_EXPIRES_IN, JobRequest, parse_request
from shared.domain.sharing import Result, Share
from shared.domain.states import JobState
from shared.faults import faults
from shared.store.events import Ended, Ending, EventId, Follower

POLL = 1.0
"""Seconds between two looks at whether anybody still waits for a held answer."""


class Submission(msgspec.Struct, frozen=True):
    """A checked request, ready to be stored. `max_queued` is its model's limit, `tenant_max` its tenant's,
    `max_bytes` what that one may store; `body` and `seed` are what the same request for another model is
    made of.
    """

    job: NewJob
    max_queued: int
    tenant_max: int | None
    max_bytes: int | None
    body: dict[str, Any]
    seed: int


class Accepted(msgspec.Struct, frozen=True):
    """A job that the store has, as last seen. `replayed`: an earlier request had made it."""

    record: Record
    replayed: bool
    urls: Links

    @property
    def cached(self) -> bool:
        """Whether it had ended as soon as it was made."""
        return self.record.fields.get("cached") == "1"

    @property
    def location(self) -> str:
        return self.urls.job(self.record.id)

    @property
    def json(self) -> bytes:
        return job_json(self.record, self.urls)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that every answer about a new job carries."""
        replayed = {"Idempotent_Replayed": "true"} if self.replayed else {}
        return {"Location": self.location, **replayed}


def read_submission() -> Submission:
    """The current request as a job. Raises `JobsError` for everything that is wrong with it."""
    key = requests.idempotency_key()
    body = requests.json_object()
    return submission_of(body, key, _digest(body) if key is not None else "")


def submission_of(body: dict[str, object], key: str | None, digest: str) -> Submission:
    """A body as a job of the caller's; one with the same key and digest is the same job."""
    wanted, spec, params = parse_request(body, services().catalog)
    services().prompt_bounds.check(spec, wanted.content)
    tokens = cost.estimated_tokens(spec, wanted.content, params)
    admit_tokens(tokens)
    seed = _seed(params.get("seed"))
    job = NewJob(
        id=new_job_id(),
        model=spec.name,
        tenant=tenant(),
        request=_encoded(spec, wanted, params, seed),
        priority=wanted.priority,
        cost=cost.share(tokens),
        expires_in=wanted.expires_in or DEFAULT_EXPIRES_IN,
        metadata=wanted.metadata,
        traceparent=context.traceparent(),
        request_id=request_context.handling().request_id,
        idempotency_key=key,
        webhook=subscription(wanted.webhook),
        share=_share(spec, wanted, params),
        body_digest=digest,
        expected=cost.expected_bytes(spec, wanted.content, params),
    )
    context.bind(job=job.id, model=spec.name)
    return Submission(job, spec.limits.max_queued, tenant_max(), tenant_bytes(), body, seed)


def tenant_max() -> int | None:
    """How many jobs of the caller's tenant may wait for one model."""
    own = client().max_queued
    return services().settings.tenant_max_queued if own is None else own


def tenant_bytes() -> int | None:
    """How many bytes the caller's tenant may store; 0: no limit, None: the store's own."""
    own = client().max_bytes
    return services().settings.tenant_max_bytes if own is None else own


def accept(submission: Submission, *, urgent: bool) -> tuple[NewJob, Created]:
    """Store the job, with a model that stands in for its own while that one's breaker is open, and ring.

    Where none can run it now, an `urgent` one is refused with `ModelUnavailable`, and any other waits for
    the model that it asked for. Raises `TryLater`, `IdempotencyMismatch`, `StoreUnavailable`.
    """
    if not urgent and services().catalog.get(submission.job.model).fallback is None:
        return submission.job, _store(submission, urgent=False)
    try:
        return submission.job, _store(submission, urgent=True)
    except ModelUnavailable:
        for other in _stand_ins(submission):
            try:
                return other.job, _store(other, urgent=True)
            except TryLater:
                continue
        if urgent:
            raise
    return submission.job, _store(submission, urgent=False)


def _store(submission: Submission, *, urgent: bool) -> Created:
    here, job = services(), submission.job
    try:
        created = here.store.create(
            job,
            max_queued=submission.max_queued,
            tenant_max=submission.tenant_max,
            max_bytes=submission.max_bytes,
            urgent=urgent,
            known=here.cache.known(job.share),
            charging=charging(),
        )
    except StorageQuotaExceeded:
        method, _, path = request_context.handling().endpoint.partition(" ")
        here.observers.emit("request_limited", method, path, "storage")
        raise
    faults.reach("created")
    if created.ring:
        here.notifier.ring(job.model)
    if job.share is not None and not created.replayed:
        found = "shared" if created.follows else "hit" if created.result is not None else "miss"
        here.observers.emit("result_looked_up", job.model, found)
    return created


def _share(spec: ModelSpec, wanted: JobRequest, params: dict[str, Any]) -> Share | None:
    bypass = requests.no_store()
    return services().cache.share(spec, tenant(), wanted.content, params, bypass=bypass)


def _stand_ins(submission: Submission) -> Iterator[Submission]:
    """The same job for each fallback that takes such a request: one id, one Idempotency-Key."""
    catalog, asked = services().catalog, submission.job.model
    for spec in catalog.fallbacks(asked):
        try:
            wanted, _, params = parse_request({**submission.body, "model": spec.name}, catalog)
            services().prompt_bounds.check(spec, wanted.content)
        except (InvalidRequest, InputRefused):
            continue
        tokens = cost.estimated_tokens(spec, wanted.content, params)
        job = replace(
            submission.job,
            model=spec.name,
            request=_encoded(spec, wanted, params, submission.seed),
            cost=cost.share(tokens),
            share=_share(spec, wanted, params),
            fallback_from=asked,
            expected=cost.expected_bytes(spec, wanted.content, params),
        )
        yield replace(submission, job=job, max_queued=spec.limits.max_queued)


def submit(submission: Submission, wait: float, *, urgent: bool = False) -> Accepted:
    """Take a job in (see `accept`) and give it `wait` seconds to end."""
    if wait > 0:
        # Expect the end before the job exists: then it cannot be missed, and nothing is read again.
        with services().expect(submission.job.id) as ending:
            job, created = accept(at_home(submission), urgent=urgent)
            waits = not created.replayed and created.result is None
            ended = await_end(ending, wait) if waits else None
        if ended is not None:
            record = Record({**_born(job, created.created_ms), **ended.fields})
            services().remember(record)
            return Accepted(record, replayed=False, urls=links())
    else:
        job, created = accept(submission, urgent=urgent)
    if created.result is not None:
        found = answered(job, created.created_ms, created.result)
        return Accepted(found, replayed=False, urls=links())
    if created.replayed:
        return Accepted(held(created.id, wait), replayed=True, urls=links())
    if wait <= 0 and (created.position is not None or created.follows):
        born = _born(job, created.created_ms)
        return Accepted(Record(born, created.position, created.start), False, links())
    return Accepted(_seen(job, created), replayed=False, urls=links())


def at_home(submission: Submission) -> Submission:
    """The same, to be told of at this process's own channel when it ends."""
    return replace(submission, job=replace(submission.job, home=services().hub.home))


def await_end(ending: Ending, wait: float) -> Ended | None:
    """How the job ended; None when it has not within `wait` seconds, or the store must be asked."""
    here, connection = services(), Connection(request_context.environ())
    deadline = time.monotonic() + wait
    while (left := deadline - time.monotonic()) > 0 and _worth_waiting(here, connection):
        ended = ending.wait(min(left, POLL))
        if ended is not None:
            return ended
        if ending.doubtful:
            # The channel broke meanwhile; from here on the log tells.
            with here.follow(ending.job_id) as follower:
                until_end(follower, deadline - time.monotonic())
            return None
    return None


def held(job_id: str, wait: float) -> Record:
    """A job of the caller's, once it has ended or `wait` seconds have passed."""
    store = services().store
    record = store.get(job_id, tenant())
    if not record.terminal and wait > 0:
        with services().follow(job_id, EventId.parse(record.head)) as follower:
            until_end(follower, wait)
        record = store.get(job_id, tenant())
    services().remember(record)
    return record


def until_end(follower: Follower, wait: float) -> None:
    """Return when the job has ended, after `wait` seconds, or when waiting has become pointless."""
    here, connection = services(), Connection(request_context.environ())
    deadline = time.monotonic() + wait
    while (left := deadline - time.monotonic()) > 0 and _worth_waiting(here, connection):
        try:
            event = follower.next(min(left, POLL))
        except StoreUnavailable:
            return
        if event is not None and event.terminal:
            return


def _worth_waiting(here: Services, connection: Connection) -> bool:
    return not here.lifecycle.draining and not connection.gone()


def _seen(job: NewJob, created: Created) -> Record:
    """The stored record; while Redis is away, what is known of it: the job is in, so never an error."""
    try:
        return services().store.get(job.id)
    except StoreUnavailable:
        return Record(_born(job, created.created_ms))


def answered(job: NewJob, at_ms: int, result: Result) -> Record:
    """A job that took another one's result when it was made."""
    return Record(
        {
            **_born(job, at_ms),
            "state": JobState.SUCCEEDED.value,
            "finished": str(at_ms),
            "cached": "1",
            "output": result.output.decode(),
            "usage": result.usage.decode(),
        }
    )


def _born(job: NewJob, created_ms: int) -> dict[str, str]:
    """The fields of a job's record as it was made."""
    return {
        "id": job.id,
        "model": job.model,
        "state": JobState.QUEUED.value,
        "created": str(created_ms),
        "attempt": "0",
        "metadata": msgspec.json.encode(job.metadata).decode(),
        **({"fallback_from": job.fallback_from} if job.fallback_from else {}),
        **({"share": job.share.packed[0]} if job.share is not None else {}),
    }


def _encoded(spec: ModelSpec, wanted: JobRequest, params: dict[str, Any], seed: int) -> bytes:
    """What the worker gets."""
    return msgspec.json.encode(
        {"content": wanted.content, "params": told(spec.engine, params), "seed": seed}
    )


def _seed(given: object) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    return random.getrandbits(63)


def _digest(body: dict[str, object]) -> str:
    return hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()
