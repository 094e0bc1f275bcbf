"""The audit log: which changes administrators made, through the API, the console and the command line, and
who signed in here.
"""

from typing import NamedTuple

from flask import Response

from api.console.blueprint import console
from api.console.filters import query_of, sent
from api.console.moments import moment
from api.console.visit import Visit
from api.routes.audit import action_of, whose
from shared.domain.audit import Action
from shared.store.api_keys import Scope
from shared.store.audit import Wanted

PAGE = 50


class Filters(NamedTuple):
    """What the list is asked for, as texts of its form; times are ms since 1970."""

    action: str = ""
    by: str = ""
    tenant: str = ""
    target: str = ""
    after: str = ""
    before: str = ""

    @property
    def wanted(self) -> Wanted:
        """Raises `InvalidRequest`."""
        return Wanted(
            action=action_of(self.action or None),
            by=self.by or None,
            target=self.target or None,
            since=moment(self.after),
            until=moment(self.before),
        )


@console.page("GET", "/audit", scope=Scope.ADMIN)
def audit(visit: Visit) -> Response:
    """The tenant's changes or, for the server's administrator, all, newest first."""
    asked = visit.request.args
    filters = Filters(**sent(asked, Filters._fields))
    found, cursor = visit.services.audit.listing(
        whose(visit.here, filters.tenant or None),
        filters.wanted,
        limit=PAGE,
        cursor=asked.get("cursor"),
    )
    return visit.page(
        "_audit_rows.html" if visit.asks_part else "audit.html",
        changes=found,
        cursor=cursor,
        first="cursor" not in asked,
        actions=list(Action),
        filters=filters,
        query=query_of(filters._asdict()),
        filtered=any(filters),
    )
