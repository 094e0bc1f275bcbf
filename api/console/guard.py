"""What a request passes before a page of the console: session, origin, CSRF token, scope, limits, a slot.

The rules are those of `api.http.gate`, for somebody who has a session in place of a token; what is refused is
told as a page, or as a notice in the page that asked.
"""

import functools
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import msgspec
from flask import Blueprint, Response, request

from api.console import figures
from api.console.assets import url_of
from api.console.sessions import OPERATOR
from api.console.visit import COOKIE, ROOT, Visit, signed_in
from api.http.answers import links
from api.http.audit import judged, recording
from api.http.auth import Forbidden, Unauthorized, client_of, require_operator
from api.http.caller import DEFAULT_CLIENT, Client
from api.http.errors import to_problem
from api.http.limits import charge_for_error, charges_of, charges_of_stranger
from api.http.operations import JSON, Method
from api.http.request_context import of
from api.state.limit_plan import Counted
from shared.domain.audit import Action, Via
from shared.domain.errors import RateLimited
from shared.store.api_keys import Scope

NAME = "console"
SIGN_IN = f"{ROOT}/sign-in"
CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf"
MULTIPART = "multipart/form-data"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

View = Callable[..., Response]


@dataclass(frozen=True, slots=True)
class Rule:
    """What one page asks of its visitors. `endpoint` is the route under which rate limits count it."""

    endpoint: str
    counted: Counted
    open: bool
    scope: Scope | None
    operates: bool
    makes_job: bool
    changes: Action | None
    uploads: bool


class Console(Blueprint):
    """The blueprint of the pages: what it registers is guarded."""

    def __init__(self) -> None:
        super().__init__(NAME, __name__, template_folder="templates")
        for name, shown in figures.FILTERS.items():
            self.add_app_template_filter(shown, name)
        self.add_app_template_global(url_of, "asset")
        self.changes: dict[str, Action] = {}
        """By path: what pages that change something are written down as."""

    def page(
        self,
        method: Method,
        path: str,
        *,
        scope: Scope | None = None,
        operates: bool = False,
        anybody: bool = False,
        any_key: bool = False,
        submits: str | None = None,
        changes: Action | None = None,
        uploads: bool = False,
    ) -> Callable[[View], View]:
        """Register `view(visit, **path)` at a path below `/console`.

        `scope` is as in `Operations.operation`; `operates`: for the server's own administrator alone;
        `any_key`: whatever its scopes;
        `anybody` may see it without a session. `submits` names the route of the API that makes the same job:
        the request counts as one to that, and its charge goes along with the job (`Visit.charges`).
        `changes` is what an administrator's request is written down as: every page has it that changes what
        is not the visitor's own session. `uploads`: a form with a file may bring its CSRF token as a field;
        the view then calls `require_csrf_field` before it stores anything.
        """
        usual = Scope.JOBS_READ if method == "GET" else Scope.JOBS_WRITE
        needed = None if any_key else scope or usual
        counted = Counted.OTHER if submits is None else Counted.SUBMIT
        endpoint = submits or f"{method} {ROOT}{path}"
        if method != "GET" and not (changes or submits or anybody or any_key):
            raise TypeError(f"{path} changes something: say what, for the audit log")
        if changes is not None:
            self.changes[f"{ROOT}{path}"] = changes
        rule = Rule(
            endpoint, counted, anybody, needed, operates, submits is not None, changes, uploads
        )

        def register(view: View) -> View:
            @functools.wraps(view)
            def answered(**parts: str) -> Response:
                visit = Visit(of(request.environ))
                return protected(_answer(rule, view, visit, parts))

            self.add_url_rule(f"{ROOT}{path}", view.__name__, answered, methods=[method])
            return view

        return register


def require_same_origin(visit: Visit) -> None:
    """Raises `Forbidden` for a form that a page of somebody else has sent."""
    site = visit.request.headers.get("Sec-Fetch-Site")
    origin = visit.request.headers.get("Origin")
    if site is not None:
        genuine = site in ("same-origin", "none")
    elif origin is not None:
        hosts = {visit.request.host, urlsplit(links(visit.here).base).netloc}
        genuine = urlsplit(origin).netloc in hosts
    else:
        genuine = True  # No browser that sends cookies to a form leaves both out.
    if not genuine:
        raise Forbidden("This form came from another site. Open the console itself and try again.")


def _answer(rule: Rule, view: View, visit: Visit, parts: dict[str, str]) -> Response:
    try:
        if rule.open:
            return view(visit, **parts)
        _admit(rule, visit)
        return _within_limits(rule, view, visit, parts)
    except Unauthorized as error:
        return _signed_out(rule, visit, error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it has a page
        return refused(visit, error)


def admit(visit: Visit, *, uploads: bool = False) -> None:
    """Find out whose session it is, and that a change comes from a page of this session.

    A form with a file, whose token is a field still to be read, passes where the page takes `uploads`.
    Raises `Unauthorized`, `Forbidden`, `StoreUnavailable`.
    """
    cookie = visit.request.cookies.get(COOKIE, "")
    session = visit.sessions.find(cookie) if cookie else None
    caller = _caller(visit, session.key_id) if session is not None else None
    if session is None or caller is None:
        raise Unauthorized("Your session has ended. Sign in again.")
    visit.session, visit.here.caller = session, caller
    if visit.request.method not in ("GET", "HEAD"):
        require_same_origin(visit)
        if not (uploads and _sends_field(visit)):
            _require_csrf(visit, session.csrf)


def _sends_field(visit: Visit) -> bool:
    """Whether it is a form with a file, sent without the page's script: its token is still to be read."""
    return visit.request.mimetype == MULTIPART and CSRF_HEADER not in visit.request.headers


def require_csrf_field(visit: Visit, fields: dict[str, str]) -> None:
    """Take the CSRF token out of the fields that came before a form's file. Raises `Forbidden` where it had
    to be there and is not the session's.
    """
    given = fields.pop(CSRF_FIELD, "")
    if _sends_field(visit):
        _require_equal(given, signed_in(visit).csrf)


def _admit(rule: Rule, visit: Visit) -> None:
    admit(visit, uploads=rule.uploads)
    caller = visit.caller
    if rule.scope is not None and not caller.may(rule.scope):
        raise Forbidden(f"Your key lacks the scope '{rule.scope}' that this page needs.")
    if rule.operates:
        require_operator(visit.here)


def _caller(visit: Visit, key_id: str) -> Client | None:
    if key_id == OPERATOR:
        return DEFAULT_CLIENT
    key = visit.services.keys.active(key_id)
    return client_of(key) if key is not None else None


def _require_csrf(visit: Visit, expected: str) -> None:
    given = visit.request.headers.get(CSRF_HEADER, "")
    if not given and visit.request.mimetype != JSON:
        given = visit.form.get(CSRF_FIELD, "")
    _require_equal(given, expected)


def _require_equal(given: str, expected: str) -> None:
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise Forbidden("This page is of an earlier session. Load it again, then repeat.")


def _within_limits(rule: Rule, view: View, visit: Visit, parts: dict[str, str]) -> Response:
    here, charges = visit.here, charges_of(visit.here, rule.endpoint, rule.counted)
    if not rule.makes_job:
        charges = charges.commit()
        if charges.refused is not None:
            raise charges.refusal()
    try:
        slot = here.services.slots.enter(charges.client)
    except RateLimited:
        charges.emit_refusal("open")
        raise
    visit.charges = charges
    try:
        answer = _recorded(rule, view, visit, parts)
    except BaseException as error:
        slot.leave()
        if rule.makes_job and isinstance(error, Exception) and visit.charges is charges:
            error, _ = charge_for_error(error, charges)
            raise error from None
        raise
    # A stream is open until its last byte is out or its reader has gone.
    answer.call_on_close(slot.leave)
    return answer


def _recorded(rule: Rule, view: View, visit: Visit, parts: dict[str, str]) -> Response:
    if rule.changes is None:
        return view(visit, **parts)
    session = visit.session.id if visit.session is not None else ""
    with recording(visit.here, rule.changes, parts, Via.CONSOLE, session):
        return judged(visit.here, view(visit, **parts))


def _signed_out(rule: Rule, visit: Visit, error: Unauthorized) -> Response:
    """Lead whoever has no session to where one begins. A wrong cookie is charged to the address."""
    if visit.request.cookies.get(COOKIE):
        charges = charges_of_stranger(visit.here, rule.endpoint).commit()
        if charges.refused is not None:
            return refused(visit, charges.refusal())
    elif visit.request.headers.get("Sec-Fetch-Site") == "cross-site" and not visit.asks_part:
        # A link from elsewhere brings no cookie that is SameSite=Strict; the page asks once more, itself.
        return visit.page("bounce.html")
    target = f"{SIGN_IN}?next={quote(visit.path)}"
    if visit.asks_part:
        return Response(status=401, headers={"HX-Redirect": target})
    if visit.request.method == "GET" and "text/html" in visit.request.headers.get("Accept", ""):
        return Response(status=303, headers={"Location": target})
    return refused(visit, error)


def refused(visit: Visit, error: Exception) -> Response:
    """A page, or in an open page a notice, that says what an exception means."""
    reply = to_problem(visit.here, error)
    problem = msgspec.json.decode(reply.body)
    template = "_notice.html" if visit.asks_part else "error.html"
    answer = visit.page(template, reply.status_code, problem=problem)
    if (seconds := reply.headers.get("Retry-After")) is not None:
        answer.headers["Retry-After"] = seconds
    if visit.asks_part:
        answer.headers["HX-Retarget"], answer.headers["HX-Reswap"] = "#notice", "innerHTML"
    return answer


def protected(answer: Response) -> Response:
    answer.headers.setdefault("Content-Security-Policy", POLICY)
    # With no referrer at all browsers would send forms with the origin "null".
    answer.headers["Referrer-Policy"] = "same-origin"
    return answer
