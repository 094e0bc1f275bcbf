"""What the rescue worker says of the jobs that it put right."""

from collections.abc import Collection
from typing import Any

from shared.hooks import Hooks
from shared.telemetry.metrics.instruments import Instruments

OUTCOMES = ("requeued", "failed", "expired")
CRASHED = "worker_crashed"
"""The code of a job that the rescuer lets fail."""


class RescueMetrics(Hooks):
    """Counts rescued jobs of the catalogue's models; jobs of a model that is not in it are left out."""

    def __init__(self, instruments: Instruments, models: Collection[str]) -> None:
        pairs = [(model, outcome) for model in models for outcome in OUTCOMES]
        self._series = instruments.children("inference_rescued_jobs_total", pairs)
        crashed = [(model, CRASHED) for model in models]
        self._crashed = instruments.children("inference_failures_total", crashed)

    def jobs_rescued(self, model: str, rescued: Any) -> None:
        for outcome in OUTCOMES:
            series = self._series.get((model, outcome))
            if series is not None and (count := getattr(rescued, outcome)):
                series.inc(count)
                if outcome == "failed":
                    self._crashed[model, CRASHED].inc(count)
