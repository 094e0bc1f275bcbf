"""`GET /v1/stats`: latencies, throughput, cache, breakers and rate limits, live."""

from pydantic import BaseModel, Field
from redis.exceptions import RedisError

from api.http.answers import document
from api.http.limits import client_name
from api.http.operations import Answer, Operations
from api.http.reply import Reply
from api.http.request_context import RequestContext
from api.intake.submission import tenant_bytes
from api.openapi import examples
from api.routes.models import Breaker, Model, describe
from api.services import Services
from shared.redis.connection import unavailable
from shared.store.backlog import Backlog, read_backlogs, read_leftovers
from shared.store.rate_limits import Usage
from shared.store.stats import ModelStats, Percentiles, read_stats

stats = Operations("stats", __name__, tag="models")


class Durations(BaseModel):
    """Percentiles in milliseconds, right to 5 %; null where there were none."""

    p50: float | None
    p95: float | None
    p99: float | None


class ModelActivity(BaseModel):
    """A model lately. Latency is from a job's making to its success."""

    model: str
    window_seconds: float
    ended: dict[str, int] = Field(description="Jobs by the state they ended in.")
    throughput: float = Field(description="Jobs that ended, a second.")
    tokens: int = Field(description="New tokens of jobs that succeeded.")
    tokens_per_second: float
    latency_ms: Durations
    queue_wait_ms: Durations
    queue_depth: int
    oldest_ms: int | None = Field(description="Since the oldest waiting job was made.")
    drained_in_ms: int | None = Field(
        description="Until all waiting jobs have started, at the pace of late; null: not known."
    )
    running: int
    breaker: Breaker


class CacheActivity(BaseModel):
    """Requests that may share a result, in the same minutes."""

    hits: int = Field(description="Had it at once.")
    shared: int = Field(description="Joined a job that was at work on it.")
    misses: int = Field(description="Had to run.")


class LimitUsage(BaseModel):
    """What a client took of a rate limit in its present window."""

    client: str
    policy: str
    window_seconds: int
    quota: int
    used: int
    refused: int = Field(description="Since it last paused for a whole window.")


class WebhookActivity(BaseModel):
    """Deliveries that wait, of all tenants, and the caller's that were given up."""

    waiting: int
    oldest_ms: int | None = Field(description="Since the oldest waiting delivery was due first.")
    given_up: int


class Storage(BaseModel):
    """What the caller's tenant makes Redis hold: jobs, inputs, results, logs and webhooks."""

    held_bytes: int
    max_bytes: int | None = Field(description="Above it no new job is taken; null: no limit.")


class Stats(BaseModel):
    """What is going on."""

    models: list[ModelActivity]
    webhooks: WebhookActivity
    dead_letters: int = Field(description="The caller's jobs that failed for no fault of theirs.")
    cache: CacheActivity | None = Field(description="Null where there is no result cache.")
    limits: list[LimitUsage]
    storage: Storage


@stats.operation(
    "GET",
    "/v1/stats",
    answers={200: Answer("The last minutes.", Stats, examples.STATS)},
)
def show_stats(here: RequestContext) -> Reply:
    """Live statistics

    Of all models, over the last five to six minutes. Rate limits are the caller's own; a key with the scope
    `admin` sees those of the hundred clients seen last.
    """
    found, _ = read(here)
    return document(found.model_dump(mode="json"))


def read(here: RequestContext) -> tuple[Stats, list[Model]]:
    """The statistics, and the models that they are of as others than the operator see them.

    Raises `StoreUnavailable`.
    """
    services = here.services
    counted = _counted(services)
    models = [
        describe(services.catalog, row.model, services.store.status(row.model), operates=False)
        for row in counted
    ]
    left = read_leftovers(services.store, here.caller.tenant)
    found = Stats(
        models=_models(services, counted, models),
        webhooks=WebhookActivity(
            waiting=left.webhooks, oldest_ms=left.oldest_webhook, given_up=left.undelivered
        ),
        dead_letters=left.dead_letters,
        cache=_cache(services, counted),
        limits=_limits(here),
        storage=_storage(here),
    )
    return found, models


def _counted(here: Services) -> list[ModelStats]:
    try:
        return read_stats(here.store.redis, here.store.keys, [spec.name for spec in here.catalog])
    except RedisError as error:
        raise unavailable(error) from error


def _models(here: Services, counted: list[ModelStats], models: list[Model]) -> list[ModelActivity]:
    backlogs = read_backlogs(here.store, [row.model for row in counted])
    return [_activity(*of_one) for of_one in zip(counted, models, backlogs, strict=True)]


def _activity(row: ModelStats, model: Model, backlog: Backlog) -> ModelActivity:
    return ModelActivity(
        model=row.model,
        window_seconds=round(row.seconds, 3),
        ended=dict(row.ended),
        throughput=round(sum(row.ended.values()) / row.seconds, 3),
        tokens=row.tokens,
        tokens_per_second=round(row.tokens / row.seconds, 3),
        latency_ms=_durations(row.latency),
        queue_wait_ms=_durations(row.queue_wait),
        queue_depth=model.queue_depth,
        oldest_ms=backlog.oldest,
        drained_in_ms=backlog.drained_in,
        running=model.running,
        breaker=model.breaker,
    )


def _durations(found: Percentiles) -> Durations:
    return Durations(p50=found.p50, p95=found.p95, p99=found.p99)


def _cache(here: Services, counted: list[ModelStats]) -> CacheActivity | None:
    if not here.settings.cache_max_size:
        return None
    return CacheActivity(
        hits=sum(row.hits for row in counted),
        shared=sum(row.shared for row in counted),
        misses=sum(row.misses for row in counted),
    )


def _storage(here: RequestContext) -> Storage:
    store, most = here.services.store, tenant_bytes(here)
    most = store.tenants_share if most is None else most
    return Storage(held_bytes=store.held_bytes(here.caller.tenant), max_bytes=most or None)


def _limits(here: RequestContext) -> list[LimitUsage]:
    caller, limits = here.caller, here.services.limits
    policies = limits.plan.all(caller.rpm, caller.rph)
    if not policies:
        return []
    whose = None if caller.operates else client_name(here)
    try:
        return [_usage(row) for row in limits.limiter.usage(policies, whose)]
    except RedisError as error:
        raise unavailable(error) from error


def _usage(row: Usage) -> LimitUsage:
    return LimitUsage(
        client=row.client,
        policy=row.policy,
        window_seconds=row.seconds,
        quota=row.quota,
        used=row.used,
        refused=row.refused,
    )
