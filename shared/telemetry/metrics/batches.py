"""What the process that works on batches says of their lines and ends."""

from shared.domain.batches import ENDED, BatchStatus
from shared.hooks import Hooks
from shared.telemetry.metrics.instruments import Instruments

OUTCOMES = ("completed", "failed")


class BatchMetrics(Hooks):
    """Counts answered lines, batches as they end, and steps that broke."""

    def __init__(self, instruments: Instruments) -> None:
        self._lines = instruments.children(
            "inference_batch_lines_total", [(outcome,) for outcome in OUTCOMES]
        )
        self._batches = instruments.children(
            "inference_batches_total", [(status.value,) for status in sorted(ENDED)]
        )
        self._broken = instruments.children(
            "inference_batch_steps_broken_total", [(status.value,) for status in BatchStatus]
        )

    def batch_answered(self, done: int, bad: int) -> None:
        self._lines[("completed",)].inc(done)
        self._lines[("failed",)].inc(bad)

    def batch_ended_as(self, status: str) -> None:
        self._batches[(status,)].inc()

    def batch_step_broke(self, status: str) -> None:
        self._broken[(status,)].inc()
