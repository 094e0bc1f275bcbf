"""The Celery tasks behind doorbells: they carry no job, and are harmless when lost or doubled.

They send no task events: in Flower's list stand jobs, and doorbells would hide them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from celery import Celery

from shared.broker import DELIVER, DRAIN

if TYPE_CHECKING:
    from workers.runtime import Runtime
    from workers.webhooks.deliveries import Deliveries


def register_drain(app: Celery, runtimes: "Mapping[str, Runtime]") -> None:
    """The doorbell's task: claim batches of jobs of the model that it names until nothing is left."""

    @app.task(name=DRAIN, send_events=False)  # type: ignore[untyped-decorator]
    def drain(model: str) -> int:
        return runtimes[model].drain()


def register_deliver(app: Celery, deliveries: "Deliveries") -> None:
    """The task behind a doorbell for webhooks: deliver until nothing is due."""

    @app.task(name=DELIVER, send_events=False)  # type: ignore[untyped-decorator]
    def deliver() -> None:
        deliveries.deliver()
