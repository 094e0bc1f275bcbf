"""API keys: made, listed and revoked by the server's own administrator."""

import time

from flask import Response

from api.console.blueprint import console
from api.console.visit import ROOT, Visit
from shared.domain.audit import Action
from shared.domain.errors import ConfigError, InvalidRequest
from shared.store.api_keys import ApiKey, Grant, Scope

MOST_SHOWN = 200
LIMITS = ("rpm", "rph", "max_queued", "max_bytes")
DAY = 86400


@console.page("GET", "/keys", scope=Scope.ADMIN, operates=True)
def api_keys(visit: Visit) -> Response:
    """The keys, newest first."""
    return _page(visit)


@console.page("POST", "/keys", scope=Scope.ADMIN, operates=True, changes=Action.KEY_CREATE)
def create_key(visit: Visit) -> Response:
    """Make a key and show its token, in this one answer."""
    try:
        grant = grant_of(visit.form)
        visit.here.changes(note=f"{grant.tenant}: {' '.join(sorted(grant.scopes))}")
        key, token = visit.services.keys.stored.create(grant)
    except ConfigError as error:
        raise InvalidRequest(f"{error.detail}.") from None
    visit.here.changes(key.id)
    return _page(visit, key, token)


@console.page(
    "POST", "/keys/<key_id>/revoke", scope=Scope.ADMIN, operates=True, changes=Action.KEY_REVOKE
)
def revoke_key(visit: Visit, key_id: str) -> Response:
    """End a key now."""
    try:
        visit.services.keys.stored.revoke(key_id)
    except ConfigError:
        raise InvalidRequest("There is no key with this id any more.") from None
    return _page(visit) if visit.asks_part else visit.moved(f"{ROOT}/keys")


def grant_of(form: dict[str, str]) -> Grant:
    """What a form asks of a new key. Raises `ConfigError`, `InvalidRequest`."""
    limits = {name: _count(form, name) for name in LIMITS}
    days = _count(form, "days")
    return Grant(
        tenant=form.get("tenant", "").strip(),
        scopes=frozenset(scope for scope in Scope if f"scope:{scope}" in form),
        expires=None if days is None else time.time() + days * DAY,
        **limits,
    )


def _count(form: dict[str, str], name: str) -> int | None:
    given = form.get(name, "").strip()
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 15 and int(given) > 0):
        raise InvalidRequest(f"'{name}' must be a whole number above 0, not {given[:40]!r}.")
    return int(given)


def _page(visit: Visit, made: ApiKey | None = None, token: str = "") -> Response:
    now, found = time.time(), visit.services.keys.stored.all()
    tenant = visit.request.args.get("tenant", "").strip()
    fitting = [key for key in reversed(found) if not tenant or key.grant.tenant == tenant]
    return visit.page(
        "_keys.html" if visit.asks_part else "keys.html",
        keys=[(key, key.state(now)) for key in fitting[:MOST_SHOWN]],
        more=len(fitting) > MOST_SHOWN,
        tenant=tenant,
        scopes=list(Scope),
        usual=(Scope.JOBS_READ, Scope.JOBS_WRITE),
        made=made,
        token=token,
    )
