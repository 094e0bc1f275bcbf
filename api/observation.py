"""Lets observers see requests: when one begins, and when the last byte of its answer is out."""

import time
from functools import partial
from typing import Any

from flask import Flask, Response

from api import current
from api.openapi import TABLE
from api.services import of
from shared import context
from shared.hooks import Hooks, Observers

OBSERVED = "truthgpt.observed"
OTHER = "other"
UNSEEN = "health"
"""The tag of what probes, scrapers and readers of the documentation call: no client waits for it."""


def routes(app: Flask) -> list[tuple[str, str]]:
    """Every (method, path template) whose requests are observed."""
    return [(op.method, op.path) for op in app.extensions[TABLE] if op.tag != UNSEEN]


def observe(app: Flask, *observers: Hooks) -> None:
    """Tell `observers` too of this app's requests. Paths that no route has are all `other`."""
    everyone = of(app).observers
    for observer in observers:
        everyone.add(observer)
    if OBSERVED in app.extensions:
        return
    app.extensions[OBSERVED] = True
    operations = {
        (op.method, op.path.replace("{", "<").replace("}", ">")): op for op in app.extensions[TABLE]
    }

    def begin() -> None:
        request, notes = current.request(), current.notes()
        rule = request.url_rule
        method = "GET" if request.method == "HEAD" else request.method
        operation = operations.get((method, rule.rule if rule is not None else ""))
        if operation is not None and operation.tag == UNSEEN:
            return
        seen = (method, operation.path) if operation is not None else (OTHER, OTHER)
        notes.observed = (*seen, time.perf_counter())
        context.bind(route=seen[1])
        everyone.emit("request_began", *seen)

    def end(response: Response) -> Response:
        notes = current.notes()
        if (observed := notes.pop("observed", None)) is not None:
            if "client" in notes:
                context.bind(tenant=notes.client.tenant)
            response.call_on_close(partial(_ended, everyone, observed, response.status_code))
        return response

    app.before_request(begin)
    app.after_request(end)


def _ended(everyone: Observers, observed: tuple[Any, ...], status: int) -> None:
    method, endpoint, began = observed
    everyone.emit("request_ended", method, endpoint, status, time.perf_counter() - began)
    # What is said between two requests of one connection belongs to neither.
    context.begin()
