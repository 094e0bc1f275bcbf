"""One request of a browser: who has signed in, in which language, and the pages that answer it."""

from functools import cached_property
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from flask import Request, Response, render_template

from api.console.sessions import Session, Sessions
from api.console.words import ENGLISH, LANGUAGES, Words
from api.http.answers import links
from api.http.caller import Client
from api.http.limits import RequestCharges
from api.http.request_context import RequestContext
from api.http.requests import raw_body
from api.services import Services
from shared.domain.errors import InvalidRequest, JobsError
from shared.store.api_keys import Scope

COOKIE = "truthgpt_console"
LANGUAGE, THEME = "truthgpt_language", "truthgpt_theme"
THEMES = ("auto", "light", "dark")
ROOT, DOCS = "/console", "/docs"
MOST_FIELDS = 64
"""Fields of a form; none of ours has as many."""
PREFERENCES_SECONDS = 365 * 24 * 3600


class Visit:
    """What a view of the console gets.

    `session`, and with it `here.caller`, is there behind the guard, and None on pages that anybody may see.
    `charges` are those of a request that makes a job: what is still to be taken, with the job.
    """

    def __init__(self, here: RequestContext) -> None:
        self.here = here
        self.session: Session | None = None
        self.charges: RequestCharges | None = None

    @property
    def services(self) -> Services:
        return self.here.services

    @property
    def request(self) -> Request:
        return self.here.request

    @property
    def caller(self) -> Client:
        return self.here.caller

    @cached_property
    def sessions(self) -> Sessions:
        services = self.services
        return Sessions(services.store.redis, services.store.keys, services.token)

    @cached_property
    def form(self) -> dict[str, str]:
        """The fields of a form, each given once, with line ends as `\\n`. Raises `JobsError`."""
        if self.request.mimetype != "application/x-www-form-urlencoded":
            raise JobsError("Send the fields of the form.", code="unsupported_media_type")
        body = raw_body(self.here, self.services.settings.max_body_bytes)
        try:
            fields = parse_qsl(
                body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"
            )
        except ValueError:
            raise InvalidRequest("The form cannot be read. Load the page again.") from None
        return {name: value.replace("\r\n", "\n") for name, value in fields}

    @cached_property
    def words(self) -> Words:
        chosen = self.request.cookies.get(LANGUAGE)
        if chosen not in LANGUAGES:
            accepts = self.request.accept_languages
            chosen = accepts.best_match(list(LANGUAGES)) if accepts else None
        return Words(chosen or ENGLISH)

    @property
    def theme(self) -> str:
        chosen = self.request.cookies.get(THEME, "")
        return chosen if chosen in THEMES else THEMES[0]

    @property
    def asks_part(self) -> bool:
        """Whether a page that is open asks for one of its parts anew."""
        return self.request.headers.get("HX-Request") == "true"

    @property
    def path(self) -> str:
        """Path and query of the page, to come back to."""
        if self.asks_part:
            shown = urlsplit(self.request.headers.get("HX-Current-URL", ""))
            return inner_path(f"{shown.path}?{shown.query}".removesuffix("?"))
        return self.request.full_path.removesuffix("?") if self.request.method == "GET" else ROOT

    def may(self, scope: str) -> bool:
        return self.session is not None and self.caller.may(Scope(scope))

    def page(self, template: str, http_status: int = 200, **values: Any) -> Response:
        """A page, or a part of one, of this template."""
        made = render_template(
            f"console/{template}",
            visit=self,
            t=self.words,
            language=self.words.language,
            languages=LANGUAGES,
            themes=THEMES,
            session=self.session,
            operates=self.session is not None and self.caller.operates,
            **values,
        )
        return Response(made, http_status, content_type="text/html; charset=utf-8")

    def moved(self, path: str) -> Response:
        """The answer that leads on to another page of the console."""
        if self.asks_part:
            return Response(status=204, headers={"HX-Redirect": path})
        return Response(status=303, headers={"Location": path})

    def remember(self, answer: Response, session: Session) -> Response:
        """Give the browser the cookie of a session, until it is closed or the session ends."""
        self._set(answer, COOKIE, session.cookie, None)
        return answer

    def forget(self, answer: Response) -> Response:
        """Take the session's cookie from the browser."""
        answer.delete_cookie(COOKIE, path=ROOT)
        return answer

    def prefer(self, answer: Response, name: str, value: str) -> Response:
        """Remember a language or theme for a year, for `/docs` too."""
        self._set(answer, name, value, PREFERENCES_SECONDS, "/")
        return answer

    def _set(
        self, answer: Response, name: str, value: str, max_age: int | None, path: str = ROOT
    ) -> None:
        answer.set_cookie(
            name,
            value,
            max_age=max_age,
            path=path,
            secure=links(self.here).base.startswith("https:"),
            httponly=True,
            samesite="Strict",
        )


def inner_path(given: str | None) -> str:
    """A path of the console to go on to: what was given if it is one, else the first page."""
    path = given or ROOT
    ours = path in (ROOT, DOCS) or path.startswith((f"{ROOT}/", f"{ROOT}?"))
    return path if ours and not any(c in path for c in "\\\r\n\t") else ROOT


def signed_in(visit: Visit) -> Session:
    """The session of a visit behind the guard."""
    return cast(Session, visit.session)
