"""The short way to the busiest routes (docs/performance.md says what Flask's costs).

What is asked and what is answered is the same on both ways, for it is the same functions that do it: see
`api.app`. A request takes the short one when its method and path are exactly those of a busy route. One from
another origin goes through Flask, where what answers browsers hangs, and so does one that is refused by its
target.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.wsgi import ClosingIterator

from api.http import observation
from api.http.errors import to_problem
from api.http.gate import View
from api.http.operations import Operation
from api.http.protection import protect
from api.http.reply import Answered, Reply
from api.http.request_target import fault_of
from api.services import Services

BUSY = (
    *("POST /v1/infer", "POST /v1/infer/stream", "POST /v1/jobs"),
    *("POST /v1/chat/completions", "POST /v1/completions", "POST /v1/responses"),
    *("POST /v1/embeddings", "POST /v1/rerank"),
)


class Parts(list[bytes]):
    """An answer that is all here, and what is to be done when it is out."""

    __slots__ = ("close",)
    close: Callable[[], None]


class Route(NamedTuple):
    """A busy route: what it is and what answers it."""

    operation: Operation
    view: View


class FastPath:
    """Answers requests for `routes`, by method and path, with `services`."""

    def __init__(self, routes: Mapping[tuple[str, str], Route], services: Services) -> None:
        self._routes = routes
        self._services = services

    def serve(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes] | None:
        """The answer, as WSGI gives it; None where the request goes through Flask."""
        route = self.route(environ)
        if route is None:
            return None
        answer = self._answer(route, environ)
        start_response(answer.status, list(answer.headers.items()))
        if isinstance(answer, Reply):
            parts = Parts((answer.body,))
            parts.close = answer.close
            return parts
        return ClosingIterator(answer.iter_encoded(), answer.close)

    def route(self, environ: WSGIEnvironment) -> Route | None:
        """Which busy route the request is for; None where it goes through Flask."""
        route = self._routes.get((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if route is None or "HTTP_ORIGIN" in environ or fault_of(environ) is not None:
            return None
        return route

    def _answer(self, route: Route, environ: WSGIEnvironment) -> Answered:
        here = observation.begin(self._services, route.operation, environ)
        try:
            answer = route.view(here)
        except Exception as error:  # noqa: BLE001 - as under Flask, whatever it is has an answer
            answer = to_problem(here, error)
        observation.end(here, answer)
        protect(answer, here.request_id)
        return answer
