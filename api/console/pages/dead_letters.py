"""What was given up: jobs that failed for no fault of theirs, webhooks that nobody took."""

from flask import Response

from api.console.blueprint import console
from api.console.shown import Row
from api.console.visit import ROOT, Visit
from api.http.limits import charges_of
from api.routes.dead_letters import retry
from api.state.limit_plan import Counted
from shared.domain.audit import Action
from shared.domain.errors import InvalidRequest, JobNotFound, JobsError

PAGE = 50
RETRY = "POST /v1/jobs/{job_id}/retry"
FIELD = "job:"
"""Before the id of a job that was ticked, in the name of a field."""


@console.page("GET", "/dead-letters")
def dead_letters(visit: Visit) -> Response:
    """The newest of both, at most fifty each."""
    return _page(visit)


@console.page("POST", "/dead-letters/retry", submits=RETRY, changes=Action.JOB_RETRY)
def retry_many(visit: Visit) -> Response:
    """Try the jobs again that were ticked: each counts as a call that tries one again."""
    ids = _ticked(visit, "Tick the jobs that are to be tried again.")
    tried, refused = 0, list[JobsError]()
    for job_id in ids:
        try:
            _charge(visit)
            retry(visit.here, job_id)
            tried += 1
        except JobsError as error:
            refused.append(error)
            if error.retryable:
                break
    visit.here.changes(note=f"{tried} of {len(ids)}")
    if not visit.asks_part:
        return visit.moved(f"{ROOT}/dead-letters")
    return _page(visit, tried=tried, refused=refused)


@console.page("POST", "/dead-letters/deliver", changes=Action.DELIVERY_REPLAY)
def deliver_many(visit: Visit) -> Response:
    """Deliver the webhooks again of the jobs that were ticked."""
    ids = _ticked(visit, "Tick the webhooks that are to be delivered again.")
    done, refused = 0, list[JobsError]()
    for job_id in ids:
        try:
            visit.services.outbox.replay(job_id, visit.caller.tenant)
            done += 1
        except JobNotFound as error:
            refused.append(error)
    visit.here.changes(note=f"{done} of {len(ids)}")
    if not visit.asks_part:
        return visit.moved(f"{ROOT}/dead-letters")
    return _page(visit, delivered=done, refused=refused)


def _ticked(visit: Visit, otherwise: str) -> list[str]:
    """The ids of the jobs that were ticked. Raises `InvalidRequest` with `otherwise` where none was."""
    ids = [name.removeprefix(FIELD) for name in visit.form if name.startswith(FIELD)]
    if not ids:
        raise InvalidRequest(otherwise)
    visit.here.changes(*ids)
    return ids


def _charge(visit: Visit) -> None:
    """Take what one retry costs. Raises `RateLimited`."""
    due = visit.charges if visit.charges is not None and visit.charges.pending else None
    charges = (due or charges_of(visit.here, RETRY, Counted.SUBMIT)).commit()
    visit.charges = charges
    if charges.refused is not None:
        raise charges.refusal()


def _page(
    visit: Visit,
    *,
    tried: int | None = None,
    delivered: int | None = None,
    refused: list[JobsError] | None = None,
) -> Response:
    services, tenant = visit.services, visit.caller.tenant
    return visit.page(
        "_dead_letters.html" if visit.asks_part else "dead_letters.html",
        rows=[Row.of(record) for record in services.store.dead(tenant, PAGE)],
        deliveries=services.outbox.undelivered(tenant, PAGE),
        page=PAGE,
        tried=tried,
        delivered=delivered,
        refused=refused or [],
    )
