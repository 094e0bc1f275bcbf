"""The Celery tasks: thin, ids only, harmless when lost or doubled."""

from celery import Celery

from shared.broker import DRAIN
from workers.runtime import Runtime


def register_drain(app: Celery, runtime: Runtime) -> None:
    """The doorbell's task: pull batches of the model until nothing is left."""

    @app.task(name=DRAIN)  # type: ignore[untyped-decorator]
    def drain(_model: str) -> int:
        return runtime.drain()
