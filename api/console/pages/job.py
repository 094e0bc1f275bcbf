"""One job: its events as they come, how it went, what went in and came out."""

from flask import Response

from api.console.blueprint import console
from api.console.shown import (
    Output,
    Request,
    Row,
    body_of,
    error_of,
    live,
    metadata_of,
    timeline,
    usage_of,
)
from api.console.visit import ROOT, Visit
from api.http.answers import links
from api.http.auth import Forbidden
from api.http.requests import Sent
from api.intake.acceptance import Rejected, submit
from api.intake.submission import submission_of
from api.routes.dead_letters import retry
from api.routes.streams import cursor_asked_for, resumed
from api.services import Services
from shared.domain.audit import Action
from shared.domain.errors import InputGone
from shared.domain.events import START, Event
from shared.domain.records import Record
from shared.domain.states import JobState
from shared.store.jobs import ANY_TENANT

PARTS = {"job": "_job_facts.html", "output": "_job_output.html", "rest": "_job_rest.html"}
"""Templates of the parts of a job's page, by their ids in it."""
LOG_PAGES = 40
"""Reads of a log, each of 256 events, in search of how earlier attempts ended."""


@console.page("GET", "/jobs/<job_id>")
def job(visit: Visit, job_id: str) -> Response:
    """One job. The page asks for its facts anew as events come."""
    return _job(visit, _found(visit, job_id))


@console.page("GET", "/jobs/<job_id>/events")
def job_events_of_session(visit: Visit, job_id: str) -> Response:
    """A job's events as `GET /v1/jobs/{job_id}/events` tells them, for who has a session."""
    cursor = cursor_asked_for(visit.here)
    record = _found(visit, job_id)
    if not _shows_content(visit, record):
        raise Forbidden("This job is another tenant's; CONSOLE_SHOW_TENANTS is not set.")
    return resumed(visit.here, record, cursor)


@console.page("POST", "/jobs/<job_id>/cancel", changes=Action.JOB_CANCEL)
def cancel(visit: Visit, job_id: str) -> Response:
    """Cancel a job."""
    visit.services.store.cancel(job_id, visit.caller.tenant)
    return _changed(visit, job_id)


@console.page(
    "POST",
    "/jobs/<job_id>/retry",
    submits="POST /v1/jobs/{job_id}/retry",
    changes=Action.JOB_RETRY,
)
def retry_job(visit: Visit, job_id: str) -> Response:
    """Try a failed job again and show the new one."""
    assert visit.charges is not None
    visit.charges = charges = visit.charges.commit()
    if charges.refused is not None:
        raise charges.refusal()
    again = retry(visit.here, job_id)
    visit.here.changes(again.id)
    return visit.moved(f"{ROOT}/jobs/{again.id}")


@console.page("POST", "/jobs/<job_id>/replay", submits="POST /v1/jobs", changes=Action.JOB_REPLAY)
def replay_job(visit: Visit, job_id: str) -> Response:
    """Ask the same once more and show the new job."""
    assert visit.charges is not None
    record = visit.services.store.get(job_id, visit.caller.tenant)
    stored = visit.services.store.request(record.id)
    if stored is None:
        raise InputGone("What was asked is no longer kept. Submit it anew.")
    body = body_of(stored, record.fields["model"])
    # One that is joined by, or told from, the cache would show nothing new.
    submission = submission_of(visit.here, Sent(None, True, body), "")
    accepted = submit(visit.here, submission, visit.charges, 0)
    visit.charges = accepted.charges
    if isinstance(accepted, Rejected):
        raise accepted.error
    return visit.moved(f"{ROOT}/jobs/{accepted.record.id}")


@console.page("POST", "/jobs/<job_id>/deliveries/replay", changes=Action.DELIVERY_REPLAY)
def replay_deliveries(visit: Visit, job_id: str) -> Response:
    """Deliver a job's webhooks again."""
    visit.services.outbox.replay(job_id, visit.caller.tenant)
    return _changed(visit, job_id)


def _changed(visit: Visit, job_id: str) -> Response:
    """The part of the page that a change was made from, or the page."""
    if not visit.asks_part:
        return visit.moved(f"{ROOT}/jobs/{job_id}")
    return _job(visit, visit.services.store.get(job_id, visit.caller.tenant))


def _found(visit: Visit, job_id: str) -> Record:
    """A job of the caller's tenant, or for the operator of any. Raises `JobNotFound`."""
    caller = visit.caller
    return visit.services.store.get(job_id, ANY_TENANT if caller.operates else caller.tenant)


def _own(visit: Visit, record: Record) -> bool:
    return record.fields["tenant"] == visit.caller.tenant


def _shows_content(visit: Visit, record: Record) -> bool:
    """Whether what was asked and answered may be shown; of another tenant's job the settings say so."""
    return _own(visit, record) or visit.services.settings.console_shows_tenants


def _trace_url(visit: Visit, record: Record) -> str | None:
    """Where the trace of a job is looked at."""
    template, parent = visit.services.settings.trace_url, record.fields.get("traceparent")
    if template is None or not parent:
        return None
    return template.replace("{trace_id}", parent.split("-")[1])


def _job(visit: Visit, record: Record) -> Response:
    services, model = visit.services, record.fields["model"]
    shows = _shows_content(visit, record)
    stored = services.store.request(record.id) if shows else None
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
        output=Output.of(record) if shows else None,
        shows=shows,
        own=_own(visit, record),
        trace_url=_trace_url(visit, record),
        error=error_of(record),
        usage=usage_of(record),
        metadata=metadata_of(record),
        deliveries=services.outbox.of_job(record.id, record.fields["tenant"])
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
