"""`GET /metrics`: what this machine's processes say of themselves, for Prometheus."""

from collections.abc import Callable
from typing import Any, Protocol, cast

from flask import Flask, Response, current_app

from api.http.caller import Access
from api.http.errors import problem
from api.http.observation import observe, routes
from api.http.operations import Answer, Operations
from api.http.reply import Answered
from api.http.request_context import RequestContext
from api.services import of
from shared.settings import Settings
from shared.store.api_keys import Scope

EXPOSITION = "truthgpt.exposition"
EXAMPLE = """\
# HELP inference_queue_depth Jobs that wait.
# TYPE inference_queue_depth gauge
inference_queue_depth{model="demo-llama"} 3.0
"""

metrics = Operations("metrics", __name__, tag="health")


class Exposition(Protocol):
    """Makes the text of `/metrics` in Prometheus' format."""

    def render(self, accept: str) -> tuple[str, bytes]: ...


@metrics.operation(
    "GET",
    "/metrics",
    access=Access.METRICS,
    scope=Scope.METRICS,
    answers={200: Answer("All metrics.", media="text/plain", example=EXAMPLE)},
    problems=("not_found",),
)
def show_metrics(here: RequestContext) -> Answered:
    """Metrics

    For Prometheus: of the API and of the workers on the same machine, and of every tenant. Takes the token of
    `METRICS_TOKEN`, or one of the default tenant with the scope `metrics`.
    """
    exposition = cast(Exposition | None, current_app.extensions.get(EXPOSITION))
    if exposition is None:
        return problem(here, "not_found", "This server keeps no metrics: ENABLE_METRICS is off.")
    content_type, body = exposition.render(here.request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)


def keep_metrics(app: Flask, settings: Settings) -> None:
    """Observe an app's requests and show them at `/metrics`. Once a process."""
    from shared.telemetry.metrics.site import Site

    site = Site(settings, "api")
    observe(app, site.requests(routes(app)))
    app.extensions[EXPOSITION] = site.exposition(OffTheLoop())
    site.start(serving=False)
    of(app).closers.append(site.stop)


class OffTheLoop:
    """Works in a thread where gevent serves, one thing at a time.

    A page takes tens of milliseconds, and the loop has all other requests to serve meanwhile.
    """

    def __init__(self) -> None:
        from gevent import monkey
        from gevent.threadpool import ThreadPool

        serving = monkey.is_module_patched("threading")
        self._pool: Any = ThreadPool(1) if serving else None

    def __call__(self, work: Callable[[], bytes]) -> bytes:
        if self._pool is None:
            return work()
        body: bytes = self._pool.apply(work)
        return body
