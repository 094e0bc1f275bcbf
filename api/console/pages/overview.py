"""The first page: what goes on now, of all models, as `GET /v1/stats` and `GET /v1/models` say it."""

import msgspec
from flask import Response

from api.console.blueprint import console
from api.console.visit import Visit
from api.routes import stats
from api.routes.stats import Durations


@console.page("GET", "")
def overview(visit: Visit) -> Response:
    """Rates, latencies, queues, workers, cache, breakers, webhooks."""
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
        broken=[model.id for model in models if model.breaker.state != "closed"],
    )


@console.page("GET", "/history")
def history(visit: Visit) -> Response:
    """The last hour in columns, for the charts: times in seconds since 1970, rates a second, ms."""
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
    return Response(msgspec.json.encode(columns), content_type="application/json")


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
