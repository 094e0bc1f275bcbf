"""The models: their queues, workers and breakers, how each runs and why."""

from collections.abc import Iterator, Mapping
from typing import Any

from flask import Response

from api.console.blueprint import console
from api.console.shown import compact
from api.console.visit import ROOT, Visit
from api.routes.models import close_breaker, describe
from shared.domain.audit import Action
from shared.store.api_keys import Scope
from shared.store.backlog import read_backlogs
from shared.store.lanes import read_lanes, read_running

MOST_FACTS = 200
"""Lines of what one worker says of its engine."""


@console.page("GET", "/models")
def models(visit: Visit) -> Response:
    """Every model of the catalogue."""
    services = visit.services
    names = [spec.name for spec in services.catalog]
    found = [
        describe(services.catalog, name, services.store.status(name), operates=False)
        for name in names
    ]
    backlogs = read_backlogs(services.store, names) if names else []
    return visit.page(
        "_models.html" if visit.asks_part else "models.html",
        models=list(zip(found, backlogs, strict=True)),
    )


@console.page("GET", "/models/<model>")
def model(visit: Visit, model: str) -> Response:
    """One model."""
    return _model(visit, model)


@console.page(
    "POST",
    "/models/<model>/breaker/reset",
    scope=Scope.ADMIN,
    operates=True,
    changes=Action.BREAKER_RESET,
)
def reset_breaker(visit: Visit, model: str) -> Response:
    """Close a model's circuit breaker, and those of its workers."""
    close_breaker(visit.services, model)
    return _model(visit, model) if visit.asks_part else visit.moved(f"{ROOT}/models/{model}")


def _model(visit: Visit, name: str) -> Response:
    services = visit.services
    spec = services.catalog.get(name)
    found = describe(
        services.catalog, name, services.store.status(name), operates=visit.caller.operates
    )
    (backlog,) = read_backlogs(services.store, [name])
    whose = None if visit.caller.operates else visit.caller.tenant
    return visit.page(
        "_model.html" if visit.asks_part else "model.html",
        spec=spec,
        model=found,
        backlog=backlog,
        lanes=read_lanes(services.store, name, whose),
        running=read_running(services.store, name, whose),
        workers=[(worker, list(facts(worker.get("engine") or {}))) for worker in found.workers],
    )


def facts(told: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """What a worker says of its engine, a line a fact: `speculation.reason` and its text.

    Lists stand on one line; of very many facts only the first are told.
    """
    lines = _lines(told, before)
    for _, line in zip(range(MOST_FACTS), lines, strict=False):
        yield line


def _lines(told: Mapping[str, Any], before: str) -> Iterator[tuple[str, str]]:
    for name, value in told.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", compact(value)
