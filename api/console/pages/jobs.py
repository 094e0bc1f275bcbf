"""The list of jobs: newest first, by status, model, tenant, time, metadata and text of the id."""

from typing import NamedTuple

from flask import Response

from api.console.blueprint import console
from api.console.filters import query_of, sent
from api.console.moments import moment
from api.console.shown import Row
from api.console.visit import ROOT, Visit
from shared.domain.errors import InvalidRequest
from shared.domain.records import JOB_ID
from shared.domain.states import JobState
from shared.store.api_keys import TENANT
from shared.store.search import Wanted, id_at, look

PAGE = 50
GOES_ON_UNTIL = 1_000_000
"""Jobs after which a search goes on only when it is told to."""


class Filters(NamedTuple):
    """What the list is asked for, as texts of its form; times are ms since 1970."""

    status: str = ""
    model: str = ""
    tenant: str = ""
    before: str = ""
    after: str = ""
    metadata: str = ""
    id: str = ""

    @property
    def wanted(self) -> Wanted:
        """Raises `InvalidRequest`."""
        name, pair, value = self.metadata.partition("=")
        return Wanted(
            state=JobState(self.status) if self.status in set(JobState) else None,
            model=self.model,
            text=self.id,
            name=name if pair else "",
            value=value,
            within="" if pair else self.metadata,
            after=moment(self.after),
        )


@console.page("GET", "/jobs")
def jobs(visit: Visit) -> Response:
    """The tenant's jobs, newest first. A search that has not found enough goes on from where it came to."""
    asked = visit.request.args
    filters = Filters(**sent(asked, Filters._fields))
    if JOB_ID.fullmatch(filters.id):
        return visit.moved(f"{ROOT}/jobs/{filters.id}")
    before, cursor = filters.before, asked.get("cursor") or None
    if cursor is None and (at := moment(before)) is not None:
        cursor = id_at(at)
    found_before, looked_before = _count(asked.get("found")), _count(asked.get("looked"))
    tenant = _tenant(visit, filters.tenant)
    one = look(
        visit.services.store,
        tenant,
        filters.wanted,
        limit=max(1, PAGE - found_before),
        cursor=cursor,
    )
    rows, looked = [Row.of(record) for record in one.records], looked_before + one.looked
    searching = one.cursor is not None and found_before + len(rows) < PAGE
    template = "_job_rows.html" if visit.asks_part else "jobs.html"
    return visit.page(
        "_job_found.html" if "looked" in asked else template,
        rows=rows,
        cursor=one.cursor,
        first="cursor" not in asked,
        found=found_before + len(rows),
        looked=looked,
        searching=searching,
        goes_on=searching and looked < GOES_ON_UNTIL,
        back_to=_made(one.cursor),
        filters=filters,
        query=query_of(filters._asdict()),
        filtered=any(filters),
        statuses=list(JobState),
        models=[spec.name for spec in visit.services.catalog],
    )


def _tenant(visit: Visit, asked: str) -> str:
    """Whose jobs: the caller's, or for the operator those of any tenant. Raises `InvalidRequest`."""
    if not asked or not visit.caller.operates:
        return visit.caller.tenant
    if not TENANT.fullmatch(asked):
        raise InvalidRequest("This is not the name of a tenant.", code="invalid_parameter")
    return asked


def _count(given: str | None) -> int:
    return int(given) if given and given.isascii() and given.isdigit() and len(given) <= 12 else 0


def _made(job_id: str | None) -> int | None:
    """When a job was made, which its id begins with: ms since 1970."""
    return int(job_id[4:16], 16) if job_id is not None else None
