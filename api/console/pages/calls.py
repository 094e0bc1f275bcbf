"""Calls of the API by the session of the console: `/console/api/v1/…` is `/v1/…` by the session's key.

The API itself takes no cookies. A call that is passed on meets the scopes, limits and metrics that the same
call with the key would, and is answered by the same routes.
"""

from contextlib import suppress
from wsgiref.types import WSGIEnvironment

from flask import Response, current_app

from api.console.blueprint import console
from api.console.guard import admit
from api.console.visit import COOKIE, ROOT, Visit
from api.http.auth import SIGNED_IN, Unauthorized
from api.http.errors import to_problem
from api.http.limits import charges_of_stranger
from api.http.reply import in_flask
from shared.domain.errors import JobsError

PREFIX = f"{ROOT}/api"
OURS = ("HTTP_COOKIE", "HTTP_AUTHORIZATION", "HTTP_ORIGIN", "HTTP_X_CSRF_TOKEN")
"""What is of the session and not of the call."""
SOCKET = "gunicorn.socket"
"""Stays with the outer request: two answers must not both write to it."""


@console.page("GET", "/bar", anybody=True)
def bar(visit: Visit) -> Response:
    """The session's bar, for a page that is sent without one, such as `/docs`."""
    if visit.request.cookies.get(COOKIE):
        with suppress(Unauthorized):  # Who has no session gets the bar of who has not signed in.
            admit(visit)
    return visit.page("_bar.html")


@console.page("GET", "/api/<path:rest>", anybody=True)
def call_get(visit: Visit, rest: str) -> Response:
    """Pass a call on."""
    return _passed_on(visit, rest)


@console.page("POST", "/api/<path:rest>", anybody=True)
def call_post(visit: Visit, rest: str) -> Response:
    """Pass a call on."""
    return _passed_on(visit, rest)


@console.page("PATCH", "/api/<path:rest>", anybody=True)
def call_patch(visit: Visit, rest: str) -> Response:
    """Pass a call on."""
    return _passed_on(visit, rest)


@console.page("DELETE", "/api/<path:rest>", anybody=True)
def call_delete(visit: Visit, rest: str) -> Response:
    """Pass a call on."""
    return _passed_on(visit, rest)


def _passed_on(visit: Visit, rest: str) -> Response:
    """The API's answer, or why the session may not call: as a problem document, which clients read."""
    here = visit.here
    try:
        if f"/{rest}".startswith(ROOT):
            raise JobsError("The console has no calls.", code="not_found")
        admit(visit)
    except Unauthorized as error:
        charges = charges_of_stranger(here, f"{visit.request.method} {PREFIX}").commit()
        refusal = error if charges.refused is None else charges.refusal()
        return in_flask(to_problem(here, refusal))
    except JobsError as error:
        return in_flask(to_problem(here, error))
    answer: Response = Response.from_app(current_app.wsgi_app, _inner(visit, rest))  # type: ignore[assignment]
    return answer


def _inner(visit: Visit, rest: str) -> WSGIEnvironment:
    """The request as the API would have got it."""
    here = visit.here
    left_out = (*OURS, SOCKET, "werkzeug.request")
    environ = {name: value for name, value in here.environ.items() if name not in left_out}
    target = str(here.environ.get("RAW_URI", "")).removeprefix(PREFIX)
    return environ | {
        "PATH_INFO": f"/{rest}",
        "RAW_URI": target or f"/{rest}",
        "HTTP_X_REQUEST_ID": here.request_id,
        SIGNED_IN: visit.caller,
    }
