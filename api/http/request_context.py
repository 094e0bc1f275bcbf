"""The request that this thread or greenlet handles, and what is noted while it lasts.

Flask's proxies find theirs anew at each attribute, which costs more than most of what is asked of them.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING
from wsgiref.types import WSGIEnvironment

from flask import Request

from shared.store.sliding_window import Charge, Standing

if TYPE_CHECKING:
    from api.http.auth import Client
    from api.http.observation import Observed
    from api.services import Services


class RequestContext:
    """One request. `endpoint` is its route as limits count it, `charges` what it is still to be charged,
    `standings` what limits said of it.
    """

    __slots__ = (
        *("_request", "charges", "client", "endpoint", "environ", "observed", "request_id"),
        *("services", "standings"),
    )

    def __init__(
        self, services: "Services", environ: WSGIEnvironment, request: Request | None
    ) -> None:
        self.services = services
        self.environ = environ
        self._request = request
        self.request_id = ""
        self.client: Client | None = None
        self.endpoint = ""
        self.charges: tuple[Charge, ...] = ()
        self.standings: list[Standing] = []
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
