"""What the worker that delivers webhooks says of its sends."""

from collections.abc import Collection

from shared.hooks import Hooks
from shared.telemetry.metrics.instruments import Instruments

OUTCOMES = ("delivered", "retry", "dead")
OTHER = "other"


class DeliveryMetrics(Hooks):
    """Counts and times sends. Those of a model that left the catalogue count as `other`."""

    def __init__(self, instruments: Instruments, models: Collection[str]) -> None:
        pairs = [(model, outcome) for model in (*models, OTHER) for outcome in OUTCOMES]
        self._sends = instruments.children("webhook_sends_total", pairs)
        self._seconds = instruments.children("webhook_send_seconds", [(o,) for o in OUTCOMES])

    def webhook_delivered(self, model: str, outcome: str, seconds: float, attempt: int) -> None:  # noqa: ARG002
        (self._sends.get((model, outcome)) or self._sends[OTHER, outcome]).inc()
        self._seconds[(outcome,)].observe(seconds)
