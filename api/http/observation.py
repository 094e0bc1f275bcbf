"""Lets observers see requests: when one begins, and when the last byte of its answer is out."""

import time
from functools import partial
from wsgiref.types import WSGIEnvironment

from flask import Flask, Request

from api.http import request_context
from api.http.operations import TABLE, Operation
from api.http.reply import Answered
from api.http.request_context import Observed, RequestContext
from api.services import Services, of
from shared import context
from shared.hooks import Hooks, Observers

OTHER = "other"
UNSEEN = "health"
"""The tag of what probes, scrapers and readers of the documentation call: no client waits for it."""


def routes(app: Flask) -> list[tuple[str, str]]:
    """Every (method, path template) whose requests are observed."""
    return [(op.method, op.path) for op in app.extensions[TABLE] if op.tag != UNSEEN]


def observe(app: Flask, *observers: Hooks) -> None:
    """Tell `observers` too of this app's requests."""
    for observer in observers:
        of(app).observers.add(observer)


def begin(
    services: Services,
    operation: Operation | None,
    environ: WSGIEnvironment,
    request: Request | None = None,
) -> RequestContext:
    """Begin to answer a request for this operation; one without counts as `other`, whatever its path."""
    if operation is None:
        method, path = OTHER, OTHER
    elif operation.tag == UNSEEN:
        return request_context.begin(services, environ, request)
    else:
        method, path = operation.method, operation.path
    here = request_context.begin(services, environ, request, path)
    here.observed = Observed(method, path, time.perf_counter())
    services.observers.emit("request_began", method, path)
    return here


def end(here: RequestContext, answer: Answered) -> None:
    """The request is answered thus."""
    if here.observed is None:
        return
    caller = getattr(here, "caller", None)
    if caller is not None:
        context.bind(tenant=caller.tenant)
    answer.call_on_close(
        partial(_ended, here.services.observers, here.observed, answer.status_code)
    )


def _ended(everyone: Observers, observed: Observed, status: int) -> None:
    seconds = time.perf_counter() - observed.began
    everyone.emit("request_ended", observed.method, observed.endpoint, status, seconds)
    # What is said between two requests of one connection belongs to neither.
    context.begin()
