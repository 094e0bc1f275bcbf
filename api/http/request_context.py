"""The request that is being answered: one value, handed on from step to step."""

import random
import re
from typing import NamedTuple, cast
from wsgiref.types import WSGIEnvironment

from flask import Request

from api.http.caller import Client
from api.services import Services
from shared import context
from shared.domain.audit import Change

KEY = "truthgpt.request"
"""Where Flask's way keeps it in the WSGI environment, from which a view gets it."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class Observed(NamedTuple):
    """A request that observers were told of. `began` is of `time.perf_counter`."""

    method: str
    endpoint: str
    began: float


class RequestContext:
    """What the request is, who sends it, and under which id it is logged.

    `caller` is there once somebody is known to send it: not on a route that anybody may call. `change` is
    there while an administrator changes something.
    """

    __slots__ = ("_request", "caller", "change", "environ", "observed", "request_id", "services")
    caller: Client

    def __init__(
        self,
        services: Services,
        environ: WSGIEnvironment,
        request_id: str,
        request: Request | None = None,
    ) -> None:
        self.services = services
        self.environ = environ
        self.request_id = request_id
        self.observed: Observed | None = None
        self.change: Change | None = None
        self._request = request

    @property
    def request(self) -> Request:
        """What the client sent, as Flask has it; made when somebody asks, for most is in `environ`."""
        if self._request is None:
            self._request = Request(self.environ)
        return self._request

    def changes(self, *targets: str, note: str = "") -> None:
        """Say what is changed, beyond what the path names, to who keeps the changes by administrators."""
        if self.change is not None:
            self.change.of(*targets, note=note)


def begin(
    services: Services,
    environ: WSGIEnvironment,
    request: Request | None = None,
    route: str = "",
) -> RequestContext:
    """Begin to answer a request: from now on log lines name it. `route` is the path of its route.

    Its id is the caller's `X-Request-ID` when that is a sane one, else a new one; its trace that of the
    caller's `traceparent`, if it is well-formed.
    """
    given = environ.get("HTTP_X_REQUEST_ID")
    if given is None or not _REQUEST_ID.fullmatch(given):
        given = f"req_{random.getrandbits(96):024x}"
    trace = environ.get("HTTP_TRACEPARENT", "")
    if trace and not _TRACEPARENT.fullmatch(trace):
        trace = ""
    context.begin(request_id=given, traceparent=trace, route=route)
    return RequestContext(services, environ, given, request)


def of(environ: WSGIEnvironment) -> RequestContext:
    """The request that Flask answers."""
    return cast(RequestContext, environ[KEY])
