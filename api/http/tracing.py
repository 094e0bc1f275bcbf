"""Tracing of the API's requests, and of what they ask of Redis."""

from typing import TYPE_CHECKING

from flask import Flask

from api.http.observation import observe
from api.services import of
from shared.settings import Settings
from shared.telemetry.traces.tracing import keep_traces

if TYPE_CHECKING:
    from shared.telemetry.traces.spans import Spans


def trace_requests(app: Flask, settings: Settings) -> None:
    """Trace an app's requests. Once a process."""

    def watch(spans: "Spans") -> None:
        store = of(app).store
        spans.watch_redis(store.redis)
        store.watch(spans.script_call)
        observe(app, spans.requests())

    of(app).closers.append(keep_traces(settings, "api", watch).stop)
