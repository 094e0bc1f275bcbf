"""Sessions of the console: where a key is signed in, and its end everywhere."""

from flask import Response

from api.console.blueprint import console
from api.console.guard import SIGN_IN
from api.console.visit import ROOT, Visit, signed_in
from api.http.auth import require_operator
from shared.domain.audit import Action


@console.page("GET", "/sessions", any_key=True)
def sessions(visit: Visit) -> Response:
    """The sessions of the visitor's own key."""
    own = signed_in(visit)
    return visit.page("sessions.html", sessions=visit.sessions.of_key(own.key_id), own=own)


@console.page("POST", "/sessions/end", any_key=True, changes=Action.SESSIONS_END)
def end_sessions(visit: Visit) -> Response:
    """End all sessions of the visitor's own key or, for the server's administrator, of any."""
    own = signed_in(visit).key_id
    key_id = visit.form.get("key", own)
    if key_id != own:
        require_operator(visit.here)
    ended = visit.sessions.end_all(key_id)
    visit.here.changes(key_id, note=f"{ended} ended")
    if key_id == own:
        return visit.forget(visit.moved(SIGN_IN))
    return visit.moved(f"{ROOT}/keys/{key_id}")
