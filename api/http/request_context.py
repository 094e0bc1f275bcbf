"""The request that this thread or greenlet handles, and what is noted while it lasts.

Flask's proxies find theirs anew at each attribute, which costs more than most of what is asked of them.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING
from wsgiref.types import WSGIEnvironment

from flask import Request

if TYPE_CHECKING:
    from api.http.auth import Client
    from api.http.observation import Observed
    from api.services import Services


class RequestContext:
    """One request: what it is, who sends it, and under which id it is logged."""

    __slots__ = ("_request", "client", "environ", "observed", "request_id", "services")

    def __init__(
        self, services: "Services", environ: WSGIEnvironment, request: Request | None
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


_handling: ContextVar[RequestContext] = ContextVar("handling")


def begin(
    services: "Services", environ: WSGIEnvironment, request: Request | None = None
) -> RequestContext:
    """Handle this request from now on, until the next one begins."""
    begun = RequestContext(services, environ, request)
    _handling.set(begun)
    return begun


def handling() -> RequestContext:
    """The request that is being handled, with its notes."""
    return _handling.get()


def environ() -> WSGIEnvironment:
    """What the client sent, and how, as the server says it."""
    return _handling.get().environ


def request() -> Request:
    """What the client sent, as Flask has it."""
    return _handling.get().request
