"""Signing in and out, the language and theme of a browser, and the files that pages load."""

from flask import Response

from api.console.assets import assets
from api.console.blueprint import console
from api.console.guard import SIGN_IN, require_same_origin
from api.console.sessions import OPERATOR
from api.console.visit import COOKIE, LANGUAGE, ROOT, THEME, THEMES, Visit, inner_path, signed_in
from api.console.words import LANGUAGES
from api.http.audit import change_by
from api.http.auth import Unauthorized, holder
from api.http.caller import DEFAULT_CLIENT, DEFAULT_TENANT, Access, Client
from api.http.limits import address_of, charges_of, charges_of_stranger
from api.state.limit_plan import Counted
from shared.domain.audit import Action, Via, plain
from shared.domain.errors import JobsError
from shared.domain.quotas import Charge, Policy
from shared.store.api_key_tokens import key_id_of

ENDPOINT = f"POST {SIGN_IN}"
BY_LINK = "by a link"
WRITTEN_DOWN = Policy("refused-sign-ins", 5, 60)
"""How many refused sign-ins of an address are written down: who guesses keys fills no log."""


@console.page("GET", "/sign-in", anybody=True)
def sign_in_page(visit: Visit) -> Response:
    """Where a session begins; the script of the page redeems the ticket of a link."""
    return _form(visit)


@console.page("POST", "/sign-in", anybody=True)
def sign_in(visit: Visit) -> Response:
    """Begin a session for who has a key, or the server's token."""
    require_same_origin(visit)
    token = visit.form.get("token", "").strip()
    client = holder(visit.services, token, Access.TOKEN)
    if client is None:
        said = key_id_of(token)
        return _rejected(visit, "This is not a valid key. Check that it was copied whole.", said)
    return _begin(visit, client)


@console.page("POST", "/sign-in/ticket", anybody=True)
def sign_in_once(visit: Visit) -> Response:
    """Begin a session for who has a link that was printed by the server and not used before."""
    require_same_origin(visit)
    if not visit.sessions.redeem(visit.form.get("ticket", "")):
        return _rejected(
            visit, "This link has been used or has expired. Sign in with a key.", note=BY_LINK
        )
    return _begin(visit, DEFAULT_CLIENT, BY_LINK)


@console.page("POST", "/sign-out", any_key=True)
def sign_out(visit: Visit) -> Response:
    """End the session."""
    visit.sessions.end(signed_in(visit).cookie)
    return visit.forget(visit.moved(SIGN_IN))


@console.page("POST", "/preferences", anybody=True)
def prefer(visit: Visit) -> Response:
    """Remember a language or a theme for this browser."""
    require_same_origin(visit)
    answer = visit.moved(inner_path(visit.form.get("next")))
    if (language := visit.form.get("language", "")) in LANGUAGES:
        visit.prefer(answer, LANGUAGE, language)
    if (theme := visit.form.get("theme", "")) in THEMES:
        visit.prefer(answer, THEME, theme)
    return answer


@console.page("GET", "/static/<name>", anybody=True)
def asset(visit: Visit, name: str) -> Response:
    """A file that pages load. Its name changes with its content, so it is kept for ever."""
    found = assets().get(name)
    if found is None:
        return Response(status=404)
    takes = visit.request.accept_encodings["gzip"] > 0
    answer = Response(found.compressed if takes else found.plain, content_type=found.content_type)
    answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
    answer.headers["Vary"] = "Accept-Encoding"
    if takes:
        answer.headers["Content-Encoding"] = "gzip"
    return answer


@console.page("GET", "/<path:rest>", any_key=True)
def nowhere(_visit: Visit, rest: str) -> Response:
    """What is no page."""
    raise JobsError(f"There is no page {rest[:80]!r} in the console.", code="not_found")


def _form(visit: Visit, error: str = "", http_status: int = 200) -> Response:
    following = visit.form.get("next") if visit.request.method == "POST" else None
    following = inner_path(following or visit.request.args.get("next"))
    return visit.page("sign_in.html", http_status, error=error, next=following)


def _rejected(visit: Visit, why: str, key_id: str | None = None, note: str = "") -> Response:
    """One answer for every wrong key; attempts are charged to the address, as at the API.

    `key_id` is what the token says of itself: of a key that has ended it tells who still uses it.
    """
    charges = charges_of_stranger(visit.here, ENDPOINT).commit()
    if charges.refused is not None:
        raise charges.refusal()
    _write_down_refusal(visit, charges.client, key_id, note)
    return _form(visit, why, 401)


def _write_down_refusal(visit: Visit, client: str, key_id: str | None, note: str) -> None:
    limiter = visit.services.limits.limiter
    if limiter.take(client, (Charge(WRITTEN_DOWN),)).refused is not None:
        return
    change = change_by(visit.here, Action.SESSION_REFUSE, Via.CONSOLE, DEFAULT_TENANT)
    change.of(*filter(None, (key_id,)), note=note)
    change.outcome = Unauthorized.code
    visit.services.audit.note(change)


def _begin(visit: Visit, client: Client, note: str = "") -> Response:
    visit.here.caller = client
    charges = charges_of(visit.here, ENDPOINT, Counted.OTHER).commit()
    if charges.refused is not None:
        raise charges.refusal()
    if (before := visit.request.cookies.get(COOKIE)) is not None:
        visit.sessions.end(before)
    key_id = OPERATOR if client is DEFAULT_CLIENT else client.key_id
    agent = plain(visit.request.headers.get("User-Agent", ""))
    change = change_by(visit.here, Action.SESSION_BEGIN, Via.CONSOLE, client.tenant, key_id)
    change.note = note
    with visit.services.audit.record(change):
        session = visit.sessions.begin(key_id, address_of(visit.here), agent)
        change.session = session.id
    return visit.remember(visit.moved(inner_path(visit.form.get("next", ROOT))), session)
