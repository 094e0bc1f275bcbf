"""The first page: what goes on now, of all models, as `GET /v1/stats` and `GET /v1/models` say it."""

import logging
import math
import time
from typing import Any

import msgspec
from flask import Response, current_app

from api.console.blueprint import console
from api.console.visit import Visit
from api.http.operations import JSON
from api.routes import stats
from api.routes.stats import Durations
from api.state.prometheus import RANGES, PrometheusAway

LOOKS = "truthgpt.console.looks"
"""Where an app keeps the last looks at the overview, among its extensions."""
SHARED, MOST_LOOKS = 2.0, 256
"""Seconds for which a look is everybody's of a tenant, and how many are kept: a look costs milliseconds."""
MOST_WORKERS = 20
"""Workers of one model that the page lists."""
_log = logging.getLogger(__name__)


@console.page("GET", "")
def overview(visit: Visit) -> Response:
    """Rates, latencies, queues, workers, cache, breakers, webhooks. Pages that are open share a look."""
    if not visit.asks_part:
        return _made(visit)
    looks: dict[tuple[object, ...], tuple[float, bytes]] = current_app.extensions.setdefault(
        LOOKS, {}
    )
    whose = (visit.caller.tenant, visit.caller.operates, visit.words.language)
    at, body = looks.get(whose, (-math.inf, b""))
    if time.monotonic() - at > SHARED:
        if len(looks) >= MOST_LOOKS:
            looks.clear()
        body = _made(visit).get_data()
        looks[whose] = time.monotonic(), body
    return Response(body, content_type="text/html; charset=utf-8")


def _made(visit: Visit) -> Response:
    told, models = stats.read(visit.here)
    ended = {
        state: sum(row.ended.get(state, 0) for row in told.models)
        for state in ("succeeded", "failed", "canceled", "expired")
    }
    return visit.page(
        "_overview.html" if visit.asks_part else "overview.html",
        stats=told,
        ended=ended,
        models=list(zip(told.models, models, strict=True)),
        throughput=sum(row.throughput for row in told.models),
        tokens=sum(row.tokens_per_second for row in told.models),
        waiting=sum(row.queue_depth for row in told.models),
        running=sum(row.running for row in told.models),
        longest=_longest([row.drained_in_ms for row in told.models]),
        workers=sum(len(model.workers) for model in models),
        worst=_worst([row.latency_ms for row in told.models]),
        most=MOST_WORKERS,
        hours=_hours(visit),
        ranges=RANGES if visit.services.prometheus is not None else (),
        broken=[model.id for model in models if model.breaker.state != "closed"],
    )


@console.page("GET", "/history")
def history(visit: Visit) -> Response:
    """Columns for the charts: times in seconds since 1970, rates a second, ms.

    The last hour is the store's own; more of them come from Prometheus, and are `away` where it is.
    """
    prometheus, hours = visit.services.prometheus, _hours(visit)
    if prometheus is not None and hours > 1:
        try:
            told: Any = prometheus.read(hours)
        except PrometheusAway as error:
            _log.warning("Prometheus does not answer: %s", error)
            told = {"away": visit.words("Prometheus does not answer.")}
        return Response(msgspec.json.encode(told), content_type=JSON)
    rows = visit.services.history.read()
    over = rows[:-1]
    columns = {
        "at": [row.minute * 60 for row in over],
        "ended": [round(row.ended / 60, 3) for row in over],
        "failed": [round(row.failed / 60, 3) for row in over],
        "tokens": [round(row.tokens / 60, 3) for row in over],
        "p50": [row.latency.p50 for row in over],
        "p95": [row.latency.p95 for row in over],
        "wait": [row.queue_wait.p95 for row in over],
    }
    return Response(msgspec.json.encode(columns), content_type=JSON)


def _hours(visit: Visit) -> int:
    """How far back the charts go."""
    asked = visit.request.args.get("hours", "")
    return next((hours for hours in RANGES if str(hours) == asked), 1)


def _longest(waits: list[int | None]) -> int | None:
    return max((wait for wait in waits if wait is not None), default=None)


def _worst(found: list[Durations]) -> Durations:
    """The largest of each percentile: those of several models cannot be added up."""
    largest = {
        name: max(
            (value for one in found if (value := getattr(one, name)) is not None), default=None
        )
        for name in ("p50", "p95", "p99")
    }
    return Durations(**largest)
