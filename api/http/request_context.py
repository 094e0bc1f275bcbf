"""The request that this thread or greenlet handles, and what is noted while it lasts.

Flask's proxies find theirs anew at each attribute, which costs more than most of what is asked of them.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple
from wsgiref.types import WSGIEnvironment

from flask import Request

from api.http.caller import Client
from api.services import Services


class Observed(NamedTuple):
    """A request that observers were told of. `began` is of `time.perf_counter`."""

    method: str
    endpoint: str
    began: float


class RequestContext:
    """One request: what it is, who sends it, and under which id it is logged."""

    __slots__ = ("_request", "client", "environ", "observed", "request_id", "services")

    def __init__(
        self, services: Services, environ: WSGIEnvironment, request: Request | None
    ) -> None:
        self.services = services
        self.environ = environ
        self._request = request
        self.request_id = ""
        self.client: Client | None = None
        self.observed: Observed | None = None

    @property
    def request(self) -> Request:
        """What the client sent, as Flask has it; made when somebody asks, for most is in `environ`."""
        if self._request is None:
            self._request = Request(self.environ)
        return self._request


_current: ContextVar[RequestContext] = ContextVar("request")


def begin(
    services: Services, environ: WSGIEnvironment, request: Request | None = None
) -> RequestContext:
    """Handle this request from now on, until the next one begins."""
    begun = RequestContext(services, environ, request)
    _current.set(begun)
    return begun


current: Callable[[], RequestContext] = _current.get
"""The request that is being handled."""


def environ() -> WSGIEnvironment:
    """What the client sent, and how, as the server says it."""
    return _current.get().environ


def request() -> Request:
    """What the client sent, as Flask has it."""
    return _current.get().request


def services() -> Services:
    """The services of the app that handles the current request."""
    return _current.get().services
