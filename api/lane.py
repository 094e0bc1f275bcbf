"""The short way to the busiest routes (docs/performance.md says what Flask's costs).

What is asked and what is answered is the same on both ways, for it is the same functions that do it: see
`api.app`. A request takes the short one when its method and path are exactly those of a busy route. One from
another origin goes through Flask, where what answers browsers hangs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, cast
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Request, Response
from werkzeug.wsgi import ClosingIterator

from api import observation
from api.errors import told
from api.operations import Operation, View

BUSY = ("POST /v1/infer", "POST /v1/infer/stream", "POST /v1/jobs")


class Parts:
    """An answer that is all here, and what is to be done when it is out."""

    __slots__ = ("_parts", "close")

    def __init__(self, parts: Iterable[bytes], close: Callable[[], None]) -> None:
        self._parts = parts
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)


class Stop(NamedTuple):
    """A busy route: what it is and what answers it."""

    operation: Operation
    view: View


class Lane:
    """Answers requests for `stops`, by method and path. `begin` and `end` are what every request meets first
    and every answer last.
    """

    def __init__(
        self,
        stops: Mapping[tuple[str, str], Stop],
        begin: Callable[[Request], None],
        end: Callable[[Response], None],
    ) -> None:
        self._stops = stops
        self._begin = begin
        self._end = end

    def stop(self, environ: WSGIEnvironment) -> Stop | None:
        """Where this request goes, None where Flask takes it."""
        if "HTTP_ORIGIN" in environ:
            return None
        return self._stops.get((environ["REQUEST_METHOD"], environ["PATH_INFO"]))

    def serve(
        self, stop: Stop, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """The answer, as WSGI gives it."""
        response = self._answer(stop, Request(environ))
        start_response(response.status, response.headers.to_wsgi_list())
        if response.is_sequence:
            return Parts(cast(list[bytes], response.response), response.close)
        return ClosingIterator(response.iter_encoded(), response.close)

    def _answer(self, stop: Stop, request: Request) -> Response:
        self._begin(request)
        observation.begin(stop.operation)
        try:
            response = stop.view()
        except Exception as error:  # noqa: BLE001 - as under Flask, whatever it is has an answer
            response = told(error)
        observation.end(response)
        self._end(response)
        return response
