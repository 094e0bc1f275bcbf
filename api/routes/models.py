"""The models of the catalogue and how they are doing: `GET /v1/models`."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from api.http.answers import document, links
from api.http.auth import require_operator
from api.http.operations import Answer, Operations, Parameter
from api.http.reply import Reply
from api.http.request_context import RequestContext
from api.openapi import model_examples
from api.openapi.model_examples import TEXT_MODEL
from api.openapi.request_schema import DIALECT, model_schemas, output_schema
from api.replicate import examples as of_replicate
from api.replicate.models import model as replicate_model
from api.replicate.schemas import ReplicateModel
from api.services import Services
from shared.domain.audit import Action
from shared.domain.breaker import BreakerState, BreakerStatus
from shared.domain.models.catalog import Batch, Catalog, Limits, ModelSpec
from shared.domain.records import ModelStatus
from shared.domain.schemas import rfc3339
from shared.store.api_keys import Scope

SERVING = ("ready", "busy")
_STATES = (*SERVING, "starting", "unhealthy", "failed")
OFFLINE = "offline"
PLACE = frozenset({"name", "host", "pid", "engine_pid"})
"""What a worker's report tells of the machine that it runs on."""

models = Operations("models", __name__)

LISTED = {
    **model_examples.MODELS,
    "results": [of_replicate.LISTED_MODEL],
    "next": None,
    "previous": None,
}

MODEL = Parameter(
    "model",
    "path",
    "The model's `id`.",
    {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"},
    TEXT_MODEL,
)


class Breaker(BaseModel):
    """A model's circuit breaker, shared by its workers. Counts are since it was first used."""

    state: Literal["closed", "open", "half_open"]
    consecutive_failures: int
    successes: int
    failures: int
    opened: int = Field(description="How often it has opened.")
    changed_at: str | None = Field(description="When the state last changed.")
    until: str | None = Field(description="While not closed: when its cool-down ends, or ended.")
    retry_after_ms: int = Field(description="Until another attempt may be tried; 0: now.")


class Model(BaseModel):
    """A model of the catalogue. `state` is that of its best worker, `offline` where none lives."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the catalogue was written, in seconds since 1970.")
    owned_by: Literal["truthgpt"] = "truthgpt"
    engine: str
    base: str | None = Field(
        default=None,
        description="Of a LoRA adapter: the model whose weights and engine hosts it shares.",
    )
    device: str | None = None
    state: Literal["ready", "busy", "starting", "unhealthy", "failed", "offline"]
    limits: Limits
    context: int | None = Field(
        default=None,
        description="Tokens that a text can have at most, its answer included, as its live workers say; null "
        "while none does, or where the model has no bound.",
    )
    batch: Batch
    workers: list[dict[str, Any]] = Field(
        description="What each live worker last said of itself. Its name, host and processes are for the "
        "operator alone; others get a number for a name."
    )
    queue_depth: int
    running: int
    breaker: Breaker
    fallback: str | None = Field(description="The model that stands in while the breaker is open.")


class ModelSchemas(BaseModel):
    """JSON schemas (draft 2020-12), each complete in itself."""

    params: dict[str, Any] = Field(description="What stands in a job request's `params`.")
    input: dict[str, Any] = Field(
        description="What stands in its `input`; a text goes in `prompt`."
    )
    output: dict[str, Any] = Field(description="What stands in a finished job's `output`.")


class ModelDetail(Model):
    """A model, and what a job request for it may hold."""

    schemas: ModelSchemas
    parts: dict[str, Any] | None = Field(
        default=None,
        description="What a live worker says that the model is made of, by its kind: pooling, prompts, "
        "dimensions, tasks, labels; null while none is loaded.",
    )


class ModelList(BaseModel):
    """All models at once: for clients of this API and OpenAI's in `data`, for Replicate's in `results`."""

    object: Literal["list"] = "list"
    data: list[Model]
    results: list[ReplicateModel]
    next: None = None
    previous: None = None


@models.operation("GET", "/v1/models", answers={200: Answer("The models.", ModelList, LISTED)})
def list_models(here: RequestContext) -> Reply:
    """List the models

    Every model of the catalogue, with its limits, its live workers and its queue.
    """
    services = here.services
    operates = here.caller.operates
    found = [
        describe(services.catalog, spec.name, services.store.status(spec.name), operates=operates)
        for spec in services.catalog
    ]
    base = links(here).base
    return document(
        {
            "object": "list",
            "data": [one.model_dump(mode="json") for one in found],
            "results": [
                replicate_model(services.catalog, spec, base, described=False)
                for spec in services.catalog
            ],
            "next": None,
            "previous": None,
        }
    )


@models.operation(
    "GET",
    "/v1/models/{model}",
    parameters=(MODEL,),
    answers={200: Answer("The model.", ModelDetail, model_examples.MODEL)},
    problems=("unknown_model",),
)
def get_model(here: RequestContext, model: str) -> Reply:
    """Read a model

    With the JSON schemas of what its jobs take as `params` and `input` and give as `output`.
    """
    services = here.services
    spec = services.catalog.get(model)
    found = describe(
        services.catalog, model, services.store.status(model), operates=here.caller.operates
    )
    shown = found.model_dump(mode="json")
    schemas = {**model_schemas(spec), "output": output_schema(spec)}
    made = {name: {"$schema": DIALECT, **one} for name, one in schemas.items()}
    return document({**shown, "schemas": made, "parts": _parts(found.workers)})


@models.operation(
    "POST",
    "/v1/models/{model}/breaker/reset",
    changes=Action.BREAKER_RESET,
    scope=Scope.ADMIN,
    parameters=(MODEL,),
    answers={200: Answer("The model.", Model, model_examples.MODELS["data"][0])},
    problems=("unknown_model",),
)
def reset_breaker(here: RequestContext, model: str) -> Reply:
    """Close a model's circuit breaker

    And those of its workers, for an operator who knows that the fault is mended. May be repeated. All
    tenants share the breaker, so this takes the scope `admin` and the default tenant.
    """
    require_operator(here)
    services = here.services
    close_breaker(services, model)
    found = describe(services.catalog, model, services.store.status(model), operates=True)
    return document(found.model_dump(mode="json"))


def close_breaker(services: Services, model: str) -> None:
    """For who operates the server. Raises `UnknownModel`."""
    services.store.reset_breaker(services.catalog.get(model).name)


def describe(catalog: Catalog, model: str, status: ModelStatus, *, operates: bool) -> Model:
    """A catalogue entry and what its workers say, as the operator sees it or other clients do."""
    spec = catalog.get(model)
    workers = [{"name": name, **report} for name, report in sorted(status.workers.items())]
    if not operates:
        workers = [_without_place(number, report) for number, report in enumerate(workers, 1)]
    return Model(
        id=spec.name,
        created=catalog.written,
        engine=spec.engine,
        base=spec.base,
        device=_device(spec, workers),
        state=summary(status),
        limits=spec.limits,
        context=_context(workers),
        batch=spec.batch,
        workers=workers,
        queue_depth=status.waiting,
        running=status.running,
        breaker=_breaker(status.breaker),
        fallback=spec.fallback,
    )


def _without_place(number: int, report: dict[str, Any]) -> dict[str, Any]:
    """A worker's report without what tells the machines and processes of this server."""
    shown = {name: value for name, value in report.items() if name not in PLACE}
    return {**shown, "name": str(number)}


def summary(status: ModelStatus) -> Any:
    """The best state that a live worker of the model is in."""
    states = {report.get("state") for report in status.workers.values()}
    return next((state for state in _STATES if state in states), OFFLINE)


def _breaker(status: BreakerStatus) -> Breaker:
    return Breaker(
        state=status.state.value,
        consecutive_failures=status.consecutive_failures,
        successes=status.successes,
        failures=status.failures,
        opened=status.opened,
        changed_at=rfc3339(status.since) if status.since else None,
        until=rfc3339(status.until) if status.state is not BreakerState.CLOSED else None,
        retry_after_ms=status.wait,
    )


def _context(workers: list[dict[str, Any]]) -> int | None:
    """The shortest of what live workers say; text models call it context, embedding models max_tokens."""
    engines = [engine for w in workers if isinstance(engine := w.get("engine"), dict)]
    told = [engine.get("context") or engine.get("max_tokens") for engine in engines]
    return min((tokens for tokens in told if isinstance(tokens, int)), default=None)


def _parts(workers: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The parts of a model, as its first worker with a loaded one tells of them; None where none does."""
    engines = [engine for w in workers if isinstance(engine := w.get("engine"), dict)]
    return next((parts for e in engines if isinstance(parts := e.get("parts"), dict)), None)


def _device(spec: ModelSpec, workers: list[dict[str, Any]]) -> str:
    for worker in workers:
        engine = worker.get("engine")
        if isinstance(engine, dict) and engine.get("device"):
            return str(engine["device"])
    return spec.device if isinstance(spec.device, str) else ",".join(spec.device)
