"""The list of jobs, and one job: its events as they come, how it went, what went in and came out."""

from flask import Response

from api.console.blueprint import console
from api.console.shown import (
    Output,
    Request,
    Row,
    error_of,
    live,
    metadata_of,
    timeline,
    usage_of,
)
from api.console.visit import ROOT, Visit
from api.http.answers import links
from api.routes.dead_letters import retry
from api.routes.streams import cursor_asked_for, resumed
from api.services import Services
from shared.domain.errors import InvalidRequest
from shared.domain.events import START, Event
from shared.domain.records import JOB_ID, Record
from shared.domain.states import JobState

PAGE = 50
PARTS = {"job": "_job_facts.html", "output": "_job_output.html", "rest": "_job_rest.html"}
"""Templates of the parts of a job's page, by their ids in it."""
LOG_PAGES = 40
"""Reads of a log, each of 256 events, in search of how earlier attempts ended."""


@console.page("GET", "/jobs")
def jobs(visit: Visit) -> Response:
    """The tenant's jobs, newest first, by status, model and age."""
    asked = visit.request.args
    wanted = asked.get("id", "").strip()
    if JOB_ID.fullmatch(wanted):
        return visit.moved(f"{ROOT}/jobs/{wanted}")
    status, model = asked.get("status", ""), asked.get("model", "")
    records, cursor = visit.services.store.listing(
        visit.caller.tenant,
        state=JobState(status) if status in set(JobState) else None,
        model=model or None,
        limit=PAGE,
        cursor=asked.get("cursor") or _before(asked.get("before", "")),
    )
    return visit.page(
        "_job_rows.html" if visit.asks_part else "jobs.html",
        rows=[Row.of(record) for record in records],
        cursor=cursor,
        first="cursor" not in asked,
        status=status,
        model=model,
        before=asked.get("before", ""),
        wanted=wanted,
        statuses=list(JobState),
        models=[spec.name for spec in visit.services.catalog],
    )


@console.page("GET", "/jobs/<job_id>")
def job(visit: Visit, job_id: str) -> Response:
    """One job. The page asks for its facts anew as events come."""
    return _job(visit, visit.services.store.get(job_id, visit.caller.tenant))


@console.page("GET", "/jobs/<job_id>/events")
def job_events_of_session(visit: Visit, job_id: str) -> Response:
    """A job's events as `GET /v1/jobs/{job_id}/events` tells them, for who has a session."""
    cursor = cursor_asked_for(visit.here)
    record = visit.services.store.get(job_id, visit.caller.tenant)
    return resumed(visit.here, record, cursor)


@console.page("POST", "/jobs/<job_id>/cancel")
def cancel(visit: Visit, job_id: str) -> Response:
    """Cancel a job."""
    visit.services.store.cancel(job_id, visit.caller.tenant)
    return _changed(visit, job_id)


@console.page("POST", "/jobs/<job_id>/retry", submits="POST /v1/jobs/{job_id}/retry")
def retry_job(visit: Visit, job_id: str) -> Response:
    """Try a failed job again and show the new one."""
    assert visit.charges is not None
    visit.charges = charges = visit.charges.commit()
    if charges.refused is not None:
        raise charges.refusal()
    return visit.moved(f"{ROOT}/jobs/{retry(visit.here, job_id).id}")


@console.page("POST", "/jobs/<job_id>/deliveries/replay")
def replay(visit: Visit, job_id: str) -> Response:
    """Deliver a job's webhooks again."""
    visit.services.outbox.replay(job_id, visit.caller.tenant)
    return _changed(visit, job_id)


def _changed(visit: Visit, job_id: str) -> Response:
    """The part of the page that a change was made from, or the page."""
    if not visit.asks_part:
        return visit.moved(f"{ROOT}/jobs/{job_id}")
    return _job(visit, visit.services.store.get(job_id, visit.caller.tenant))


def _job(visit: Visit, record: Record) -> Response:
    services, model = visit.services, record.fields["model"]
    stored = services.store.request(record.id)
    base = links(visit.here).base
    return visit.page(
        PARTS.get(visit.request.headers.get("HX-Target", ""), "job.html"),
        job=record.fields,
        row=Row.of(record),
        live=live(record),
        position=record.position,
        start=record.start,
        canceling=record.fields.get("cancel_requested") == "1" and live(record),
        steps=timeline(record, _ends_of_attempts(services, record), operates=visit.caller.operates),
        request=Request.of(stored, model, base) if stored is not None else None,
        output=Output.of(record),
        error=error_of(record),
        usage=usage_of(record),
        metadata=metadata_of(record),
        deliveries=services.outbox.of_job(record.id, visit.caller.tenant)
        if "webhook" in record.fields
        else [],
    )


def _ends_of_attempts(services: Services, record: Record) -> list[Event]:
    """The events that say why an attempt ended and another one was to come; most jobs have none."""
    if int(record.fields["attempt"]) < 1 or not _has_gone_back(record):
        return []
    found: list[Event] = []
    cursor = START
    for _ in range(LOG_PAGES):
        page = services.hub.log.read(record.id, cursor)
        found += [event for event in page if event.kind == "status" and b'"reason"' in event.data]
        if not page:
            break
        cursor = page[-1].id
    return found


def _has_gone_back(record: Record) -> bool:
    return int(record.fields["attempt"]) > 1 or record.state is JobState.QUEUED


def _before(given: str) -> str | None:
    """The cursor of jobs that were made before a time in ms: ids begin with theirs. None: from the newest."""
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 14):
        raise InvalidRequest("The time is not one that a page gave.", code="invalid_parameter")
    return f"job_{int(given):012x}{'0' * 20}"
