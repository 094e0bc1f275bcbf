"""Lets observers see requests: when one begins, and when the last byte of its answer is out."""

import time
from functools import partial

from flask import Flask

from api.http import request_context
from api.http.operations import TABLE, Operation
from api.http.reply import Answered
from api.http.request_context import Observed
from api.services import of
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


def begin(operation: Operation | None) -> None:
    """The current request is for this operation; without one it counts as `other`, whatever its path."""
    if operation is not None and operation.tag == UNSEEN:
        return
    here = request_context.current()
    seen = (operation.method, operation.path) if operation is not None else (OTHER, OTHER)
    here.observed = Observed(*seen, time.perf_counter())
    context.bind(route=seen[1])
    here.services.observers.emit("request_began", *seen)


def end(answer: Answered) -> None:
    """The current request is answered thus."""
    here = request_context.current()
    if here.observed is None:
        return
    if here.client is not None:
        context.bind(tenant=here.client.tenant)
    everyone = here.services.observers
    answer.call_on_close(partial(_ended, everyone, here.observed, answer.status_code))


def _ended(everyone: Observers, observed: Observed, status: int) -> None:
    seconds = time.perf_counter() - observed.began
    everyone.emit("request_ended", observed.method, observed.endpoint, status, seconds)
    # What is said between two requests of one connection belongs to neither.
    context.begin()
