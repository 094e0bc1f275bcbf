"""The audit log: which changes administrators made, through the API, the console and the command line."""

from flask import Response

from api.console.blueprint import console
from api.console.visit import Visit
from api.routes.audit import fitting, whose
from shared.domain.audit import Action
from shared.store.api_keys import Scope

PAGE = 50


@console.page("GET", "/audit", scope=Scope.ADMIN)
def audit(visit: Visit) -> Response:
    """The tenant's changes or, for the server's administrator, all, newest first."""
    asked = visit.request.args
    action, by, target, tenant = (
        asked.get(name, "").strip() for name in ("action", "by", "target", "tenant")
    )
    found, cursor = visit.services.audit.listing(
        whose(visit.here, tenant or None),
        fits=fitting(action or None, by or None, target or None),
        limit=PAGE,
        cursor=asked.get("cursor"),
    )
    return visit.page(
        "_audit_rows.html" if visit.asks_part else "audit.html",
        changes=found,
        cursor=cursor,
        first="cursor" not in asked,
        actions=list(Action),
        chosen={"action": action, "by": by, "target": target, "tenant": tenant},
        filtered=bool(action or by or target or tenant),
    )
