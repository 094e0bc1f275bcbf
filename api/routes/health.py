"""Is the process up, can it serve: `/`, `/health`, `/ready`."""

from typing import Literal

from pydantic import BaseModel

from api.about import NAME, VERSION
from api.http.answers import document
from api.http.caller import Access
from api.http.errors import problem
from api.http.operations import Answer, Operations
from api.http.reply import Reply
from api.http.request_context import RequestContext
from api.openapi import examples
from api.routes.models import SERVING, summary
from api.services import Services
from shared.domain.errors import StoreUnavailable
from shared.domain.records import ModelStatus

health = Operations("health", __name__)


class About(BaseModel):
    name: str
    version: str
    documentation: str
    openapi: str


class Health(BaseModel):
    status: Literal["ok"]
    version: str


class Check(BaseModel):
    """`workers` is how many live; `consuming`, whether one of them takes doorbells from the broker."""

    ok: bool
    state: str
    workers: int | None = None
    consuming: bool | None = None


class Checks(BaseModel):
    redis: Check
    models: dict[str, Check]


class Readiness(BaseModel):
    status: Literal["ready"]
    checks: Checks


@health.operation(
    "GET",
    "/",
    access=Access.OPEN,
    answers={
        200: Answer(
            "Name, version, where the documentation is.",
            About,
            {
                "name": NAME,
                "version": "0.1.0",
                "documentation": "/docs",
                "openapi": "/openapi.json",
            },
        )
    },
)
def about(_here: RequestContext) -> Reply:
    """What this is"""
    return document(
        {"name": NAME, "version": VERSION, "documentation": "/docs", "openapi": "/openapi.json"}
    )


@health.operation(
    "GET",
    "/health",
    access=Access.OPEN,
    answers={200: Answer("It is.", Health, {"status": "ok", "version": "0.1.0"})},
)
def is_up(_here: RequestContext) -> Reply:
    """Is the process up

    Asks nobody else; for a liveness probe.
    """
    return document({"status": "ok", "version": VERSION})


@health.operation(
    "GET",
    "/ready",
    access=Access.OPEN,
    answers={200: Answer("It can.", Readiness, examples.READY)},
    problems=("redis_unavailable", "model_unavailable"),
)
def is_ready(here: RequestContext) -> Reply:
    """Can it serve

    Redis answers, and at least one model has a live worker that is ready and whose consumer takes what
    comes through the broker. Otherwise 503, with what failed in `checks`; for a readiness probe.
    """
    checks = _checks(here.services)
    shown = checks.model_dump(mode="json", exclude_none=True)
    if not checks.redis.ok:
        return problem(here, "redis_unavailable", "Redis does not answer.", checks=shown)
    if not any(check.ok for check in checks.models.values()):
        states = ", ".join(_said(name, check) for name, check in checks.models.items())
        return problem(
            here,
            "model_unavailable",
            f"No model has a worker that is ready: {states}.",
            checks=shown,
        )
    return document({"status": "ready", "checks": shown})


def _said(model: str, check: Check) -> str:
    deaf = ": no worker of it takes doorbells from the broker" if check.consuming is False else ""
    return f"{model} is {check.state}{deaf}"


def _consuming(status: ModelStatus) -> bool | None:
    """None where no worker says anything of it."""
    told = [report["consuming"] for report in status.workers.values() if "consuming" in report]
    return any(told) if told else None


def _checks(here: Services) -> Checks:
    found: dict[str, Check] = {}
    try:
        for spec in here.catalog:
            status = here.store.status(spec.name)
            state = summary(status)
            found[spec.name] = Check(
                ok=state in SERVING,
                state=state,
                workers=len(status.workers),
                consuming=_consuming(status),
            )
    except StoreUnavailable:
        return Checks(redis=Check(ok=False, state="unreachable"), models={})
    return Checks(redis=Check(ok=True, state="ok"), models=found)
