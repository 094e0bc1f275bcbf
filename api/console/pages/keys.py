"""API keys: made, listed, changed and revoked by the server's own administrator."""

import time

from flask import Response

from api.console.blueprint import console
from api.console.pages.usage import account_of
from api.console.visit import ROOT, Visit
from api.routes.keys import updated
from shared.domain.audit import Action
from shared.domain.errors import ConfigError, InvalidRequest, JobsError
from shared.store.api_keys import LIMITS, ApiKey, Grant, Scope

MOST_SHOWN = 200
DAY = 86400
OVERLAPS = (0, 3600, DAY, 7 * DAY)
"""For how many seconds an old key may still work beside the one that replaces it."""
USAGE_SPAN = 7


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
    if not visit.asks_part:
        return visit.moved(f"{ROOT}/keys")
    return _one(visit, key_id) if visit.request.headers.get("HX-Target") == "key" else _page(visit)


@console.page("GET", "/keys/<key_id>", scope=Scope.ADMIN, operates=True)
def api_key(visit: Visit, key_id: str) -> Response:
    """One key: what it may do, what its tenant used lately, where it is signed in."""
    return _one(visit, key_id)


@console.page(
    "POST",
    "/keys/<key_id>/rotate",
    scope=Scope.ADMIN,
    operates=True,
    changes=Action.KEY_ROTATE,
)
def rotate_key(visit: Visit, key_id: str) -> Response:
    """Make a key with the same rights, show its token in this one answer, and end the old key."""
    overlap = visit.form.get("overlap", "0")
    if overlap not in map(str, OVERLAPS):
        raise InvalidRequest("Choose for how long the old key still works.")
    try:
        key, token = visit.services.keys.stored.rotate(key_id, float(overlap))
    except ConfigError as error:
        raise InvalidRequest(f"{error.detail}.") from None
    visit.here.changes(key.id)
    return _one(visit, key_id, key, token)


@console.page(
    "POST", "/keys/<key_id>/update", scope=Scope.ADMIN, operates=True, changes=Action.KEY_UPDATE
)
def update_key(visit: Visit, key_id: str) -> Response:
    """Change a key's limits, expiry and note."""
    key = updated(visit.here, key_id, changes_of(visit.form))
    if not visit.asks_part:
        return visit.moved(f"{ROOT}/keys/{key_id}")
    return _one(visit, key_id, changed=key)


def changes_of(form: dict[str, str]) -> dict[str, int | float | str | None]:
    """What a form changes of a key: all limits and the note, the expiry where it names one. Raises
    `InvalidRequest`.
    """
    changes: dict[str, int | float | str | None] = {**_limits(form), "note": _note(form)}
    if "never" in form:
        changes["expires"] = None
    elif (days := _count(form, "days")) is not None:
        changes["expires"] = time.time() + days * DAY
    return changes


def grant_of(form: dict[str, str]) -> Grant:
    """What a form asks of a new key. Raises `ConfigError`, `InvalidRequest`."""
    days = _count(form, "days")
    return Grant(
        tenant=form.get("tenant", "").strip(),
        scopes=frozenset(scope for scope in Scope if f"scope:{scope}" in form),
        expires=None if days is None else time.time() + days * DAY,
        note=_note(form),
        **_limits(form),
    )


def _limits(form: dict[str, str]) -> dict[str, int | None]:
    """The limits of a form; None: the server's own. Of bytes 0 is any number."""
    least = {"max_bytes": 0}
    return {name: _count(form, name, least.get(name, 1)) for name in LIMITS}


def _note(form: dict[str, str]) -> str:
    return form.get("note", "").strip()


def _count(form: dict[str, str], name: str, least: int = 1) -> int | None:
    given = form.get(name, "").strip()
    if not given:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 15 and int(given) >= least):
        raise InvalidRequest(
            f"'{name}' must be a whole number from {least} on, not {given[:40]!r}."
        )
    return int(given)


def _page(visit: Visit, made: ApiKey | None = None, token: str = "") -> Response:
    now, tenant = time.time(), visit.request.args.get("tenant", "").strip()
    found, more = visit.services.keys.stored.page(MOST_SHOWN, tenant=tenant or None)
    return visit.page(
        "_keys.html" if visit.asks_part else "keys.html",
        keys=[(key, key.state(now)) for key in found],
        more=more,
        tenant=tenant,
        scopes=list(Scope),
        usual=(Scope.JOBS_READ, Scope.JOBS_WRITE),
        made=made,
        token=token,
    )


def _one(
    visit: Visit,
    key_id: str,
    made: ApiKey | None = None,
    token: str = "",
    changed: ApiKey | None = None,
) -> Response:
    key = visit.services.keys.stored.find(key_id)
    if key is None:
        raise JobsError("There is no key with this id any more.", code="not_found")
    store, tenant, state = visit.services.store, key.grant.tenant, key.state(time.time())
    return visit.page(
        "_key.html" if visit.asks_part else "key.html",
        key=key,
        state=state,
        account=account_of(store, tenant, USAGE_SPAN),
        held=store.held_bytes(tenant),
        sessions=visit.sessions.of_key(key_id) if state == "active" else [],
        overlaps=OVERLAPS,
        changed=changed is not None,
        made=made,
        token=token,
    )
