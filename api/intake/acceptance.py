"""Making the job of a submission: stored, its model's doorbell rung, and perhaps waited for.

What becomes of it is a value, which says how its client stands with the rate limits too: the charge travels
in the call that makes the job.
"""

import msgspec

from api.http.answers import Links, job_json, links
from api.http.limits import RequestCharges
from api.http.request_context import RequestContext
from api.intake.submission import Submission, stand_ins
from api.intake.waiting import await_completion, wait_for_end
from api.services import Services
from shared.domain.creation import (
    Cached,
    Created,
    Followed,
    Limited,
    Mismatched,
    Reason,
    Refused,
    Replayed,
    Stored,
)
from shared.domain.errors import JobsError, ModelUnavailable, StoreUnavailable, TryLater
from shared.domain.records import NewJob, Record
from shared.domain.sharing import Result
from shared.domain.states import JobState
from shared.faults import faults

_QUEUED = JobState.QUEUED.value


class Accepted(msgspec.Struct, frozen=True):
    """A job that the store has, as last seen. `replayed`: an earlier request had made it. `charges`: how its
    client stands with what it was charged.
    """

    record: Record
    replayed: bool
    urls: Links
    charges: RequestCharges

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


class Rejected(msgspec.Struct, frozen=True):
    """No answer about a job can be given: why, and how the client stands with what it was charged."""

    error: JobsError
    charges: RequestCharges


class Placed(msgspec.Struct, frozen=True):
    """A job that the store has just taken in: what was asked of it, and what became of that."""

    job: NewJob
    outcome: Stored
    charges: RequestCharges


def submit(
    here: RequestContext,
    submission: Submission,
    charges: RequestCharges,
    wait: float,
    *,
    urgent: bool = False,
) -> Accepted | Rejected:
    """Take a job in (see `accept`) and give it `wait` seconds to end."""
    if wait <= 0:
        placed = accept(here, submission, charges, urgent=urgent)
        return placed if isinstance(placed, Rejected) else _accepted(here, placed, 0)
    # Expect the end before the job exists: then it cannot be missed, and nothing is read again.
    services = here.services
    try:
        waiter = services.expect(submission.job.id)
    except StoreUnavailable as error:
        return _rejected(error, charges)
    with waiter:
        placed = accept(
            here, submission, charges, urgent=urgent, reply_channel=services.hub.reply_channel
        )
        if isinstance(placed, Rejected):
            return placed
        outcome, completion = placed.outcome, None
        if isinstance(outcome, Created | Followed):
            completion = await_completion(here, waiter, wait)
    if completion is None or isinstance(outcome, Cached | Replayed):
        return _accepted(here, placed, wait)
    record = Record({**_fields_of(placed.job, outcome.created_ms), **completion.fields})
    services.remember(record)
    return Accepted(record, False, links(here), placed.charges)


def accept(
    here: RequestContext,
    submission: Submission,
    charges: RequestCharges,
    *,
    urgent: bool,
    reply_channel: str = "",
) -> Placed | Rejected:
    """Store the job, with a model that stands in for its own while that one's breaker is open, and ring.

    Where none can run it now, an `urgent` one is rejected with `ModelUnavailable`, and any other waits for
    the model that it asked for. `reply_channel`: who waits for its end, see `JobStore.create`.
    """
    services = here.services
    if submission.tokens:
        charges = charges.with_tokens(submission.tokens)
    if not urgent and submission.spec.fallback is None:
        return _store(services, submission, charges, reply_channel, urgent=False)
    placed = _store(services, submission, charges, reply_channel, urgent=True)
    if isinstance(placed, Placed) or not isinstance(placed.error, ModelUnavailable):
        return placed
    for other in stand_ins(here, submission):
        instead = _store(services, other, placed.charges, reply_channel, urgent=True)
        if isinstance(instead, Placed) or not isinstance(instead.error, TryLater):
            return instead
    if urgent:
        return placed
    return _store(services, submission, placed.charges, reply_channel, urgent=False)


def answered(job: NewJob, at_ms: int, result: Result) -> Record:
    """A job that took another one's result when it was made."""
    return Record(
        {
            **_fields_of(job, at_ms),
            "state": JobState.SUCCEEDED.value,
            "finished": str(at_ms),
            "cached": "1",
            "output": result.output.decode(),
            "usage": result.usage.decode(),
        }
    )


def _store(
    services: Services,
    submission: Submission,
    charges: RequestCharges,
    reply_channel: str,
    *,
    urgent: bool,
) -> Placed | Rejected:
    job = submission.job
    try:
        outcome = services.store.create(
            job,
            max_queued=submission.spec.limits.max_queued,
            tenant_max=submission.tenant_max,
            max_bytes=submission.max_bytes,
            urgent=urgent,
            known=services.cache.known(job.share) if job.share is not None else None,
            charges=charges.pending,
            reply_channel=reply_channel,
        )
    except StoreUnavailable as error:
        return _rejected(error, charges)
    charges = charges.after(outcome.quota)
    match outcome:
        case Limited():
            return Rejected(charges.refusal(), charges)
        case Mismatched():
            return Rejected(outcome.to_error(), charges)
        case Refused():
            if outcome.reason is Reason.STORAGE_QUOTA_EXCEEDED:
                charges.emit_refusal("storage")
            return Rejected(outcome.to_error(), charges)
    faults.reach("created")
    if isinstance(outcome, Created) and outcome.ring:
        services.notifier.ring(job.model)
    if job.share is not None and not isinstance(outcome, Replayed):
        services.observers.emit("result_looked_up", job.model, _found(outcome))
    return Placed(job, outcome, charges)


def _found(outcome: Created | Followed | Cached) -> str:
    match outcome:
        case Followed():
            return "shared"
        case Cached():
            return "hit"
    return "miss"


def _rejected(error: JobsError, charges: RequestCharges) -> Rejected:
    """The store did not say what became of the job, nor of the charges that went along."""
    charges = charges.commit()
    return Rejected(charges.refusal() if charges.refused is not None else error, charges)


def _accepted(here: RequestContext, placed: Placed, wait: float) -> Accepted | Rejected:
    """The job as it is answered: one that an earlier request made is given `wait` seconds to end."""
    try:
        record = _record(here, placed, wait)
    except JobsError as error:
        return Rejected(error, placed.charges)
    return Accepted(record, isinstance(placed.outcome, Replayed), links(here), placed.charges)


def _record(here: RequestContext, placed: Placed, wait: float) -> Record:
    job, outcome = placed.job, placed.outcome
    match outcome:
        case Cached():
            return answered(job, outcome.created_ms, outcome.result)
        case Replayed():
            return wait_for_end(here, outcome.id, wait)
        case Followed() if wait <= 0:
            return Record(_fields_of(job, outcome.created_ms))
        case Created() if wait <= 0 and outcome.position is not None:
            fields = _fields_of(job, outcome.created_ms)
            return Record(fields, outcome.position, outcome.start)
    try:
        record = here.services.store.get(job.id)
        # Its id leaves with this answer, and who reads its events may ask a process of the version before.
        here.services.show_events(record)
        return record
    except StoreUnavailable:
        # The job is in, so this is never an error: it is answered with what is known of it.
        return Record(_fields_of(job, outcome.created_ms))


def _fields_of(job: NewJob, created_ms: int) -> dict[str, str]:
    """The fields of a job's record as it was made."""
    return {
        "id": job.id,
        "model": job.model,
        "state": _QUEUED,
        "created": str(created_ms),
        "attempt": "0",
        **({"metadata": msgspec.json.encode(job.metadata).decode()} if job.metadata else {}),
        **({"fallback_from": job.fallback_from} if job.fallback_from else {}),
        **({"share": job.share.packed[0]} if job.share is not None else {}),
    }
