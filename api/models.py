"""The models of the catalogue and how they are doing: `GET /v1/models`."""

from typing import Any, Literal

from flask import Response
from pydantic import BaseModel, Field

from api import examples
from api.answers import document
from api.operations import Answer, Operations
from api.services import services
from shared.catalog import Batch, Limits, ModelSpec
from shared.jobs import ModelStatus

SERVING = ("ready", "busy")
_STATES = (*SERVING, "starting", "unhealthy", "failed")
OFFLINE = "offline"

models = Operations("models", __name__)


class Model(BaseModel):
    """A model of the catalogue. `state` is that of its best worker, `offline` where none lives."""

    id: str
    object: Literal["model"] = "model"
    engine: str
    device: str | None = None
    state: Literal["ready", "busy", "starting", "unhealthy", "failed", "offline"]
    limits: Limits
    batch: Batch
    workers: list[dict[str, Any]] = Field(description="What each live worker last said of itself.")
    queue_depth: int
    running: int


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


@models.operation(
    "GET", "/v1/models", answers={200: Answer("The models.", ModelList, examples.MODELS)}
)
def list_models() -> Response:
    """List the models

    Every model of the catalogue, with its limits, its live workers and its queue.
    """
    here = services()
    found = [describe(spec, here.store.status(spec.name)) for spec in here.catalog]
    return document(ModelList(data=found).model_dump(mode="json"))


def describe(spec: ModelSpec, status: ModelStatus) -> Model:
    """A catalogue entry and what its workers say, as clients see it."""
    workers = [{"name": name, **report} for name, report in sorted(status.workers.items())]
    return Model(
        id=spec.name,
        engine=spec.engine,
        device=_device(spec, workers),
        state=summary(status),
        limits=spec.limits,
        batch=spec.batch,
        workers=workers,
        queue_depth=status.waiting,
        running=status.running,
    )


def summary(status: ModelStatus) -> Any:
    """The best state that a live worker of the model is in."""
    states = {report.get("state") for report in status.workers.values()}
    return next((state for state in _STATES if state in states), OFFLINE)


def _device(spec: ModelSpec, workers: list[dict[str, Any]]) -> str:
    for worker in workers:
        engine = worker.get("engine")
        if isinstance(engine, dict) and engine.get("device"):
            return str(engine["device"])
    return spec.device if isinstance(spec.device, str) else ",".join(spec.device)
