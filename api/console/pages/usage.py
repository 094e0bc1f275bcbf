"""What a tenant has used, by day and by model."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from flask import Response

from api.console.blueprint import console
from api.console.visit import Visit
from api.http.auth import require_operator
from shared.domain.errors import InvalidRequest
from shared.redis.connection import reachable
from shared.store.api_keys import TENANT
from shared.store.jobs import JobStore
from shared.store.lua_constants import USAGE_DAYS
from shared.store.usage import DailyUsage, read_usage

SPANS = (7, 30, USAGE_DAYS)
"""Days that can be looked at."""


@dataclass(slots=True)
class Used:
    """Sums over days or models. Times are in seconds."""

    jobs: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    run_seconds: float = 0.0
    device_seconds: float = 0.0

    @property
    def ended(self) -> int:
        return self.jobs.total()

    def add(self, row: DailyUsage) -> None:
        self.jobs.update(row.jobs)
        self.prompt_tokens += row.prompt_tokens
        self.completion_tokens += row.completion_tokens
        self.cached_tokens += row.cached_tokens
        self.run_seconds += row.run_seconds
        self.device_seconds += row.device_seconds


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant's usage: in all, of each day from today backwards, and by model, most jobs first."""

    total: Used
    days: list[tuple[date, Used]]
    models: list[tuple[str, Used]]


@console.page("GET", "/usage")
def usage(visit: Visit) -> Response:
    """The visitor's own tenant's usage or, for the server's administrator, anyone's."""
    own = visit.caller.tenant
    tenant = visit.request.args.get("tenant", "").strip() or own
    if tenant != own:
        require_operator(visit.here)
        if not TENANT.fullmatch(tenant):
            raise InvalidRequest("This is not the name of a tenant.", code="invalid_parameter")
    span = span_of(visit.request.args.get("days", ""))
    store = visit.services.store
    return visit.page(
        "usage.html",
        account=account_of(store, tenant, span),
        held=store.held_bytes(tenant),
        tenant=tenant,
        span=span,
        spans=SPANS,
    )


def span_of(given: str) -> int:
    """The days that are asked for, of those that can be; what is none of them is the fewest."""
    return int(given) if given in map(str, SPANS) else SPANS[0]


def account_of(store: JobStore, tenant: str, span: int) -> Account:
    """What a tenant used in the last `span` days up to today. Raises `StoreUnavailable`."""
    with reachable():
        rows = read_usage(store, span, tenant)
    total = Used()
    today = datetime.now(UTC).date()
    days = {today - timedelta(days=ago): Used() for ago in range(span)}
    models: dict[str, Used] = {}
    for row in rows:
        for sums in (total, days.setdefault(row.day, Used()), models.setdefault(row.model, Used())):
            sums.add(row)
    return Account(total, sorted(days.items(), reverse=True), _most_first(models.items()))


def _most_first(models: Iterable[tuple[str, Used]]) -> list[tuple[str, Used]]:
    return sorted(models, key=lambda item: (-item[1].ended, item[0]))
