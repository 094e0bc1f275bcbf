"""A model that streams: a logistic map's orbit, one value at a time, under the reader's eyes."""

from collections.abc import Generator
from typing import Any

import torch

from shared.domain.errors import InputRefused
from workers.engines.one_shot import OneShotModel

MOST_STEPS = 10_000


class StreamingModel(OneShotModel):
    """`{"rate": 3.7, "steps": 20}` in; a `{"step", "value"}` each step, the last value as the output."""

    def load(self, device: torch.device) -> None:
        self._start = torch.tensor(0.5, dtype=torch.float64, device=device)

    def cost(self, item: Any) -> float:
        """Refuses at the door what is no orbit."""
        try:
            rate, steps = float(item["rate"]), int(item["steps"])
        except (KeyError, TypeError, ValueError):
            raise InputRefused("The input must have numbers `rate` and `steps`.") from None
        if not 0 <= rate <= 4 or not 1 <= steps <= MOST_STEPS:
            raise InputRefused(f"`rate` must be in 0 … 4, `steps` in 1 … {MOST_STEPS}.")
        return 1.0

    def stream(self, item: Any) -> Generator[Any, None, Any]:
        value = self._start
        for step in range(int(item["steps"])):
            value = float(item["rate"]) * value * (1 - value)
            yield {"step": step, "value": value.item()}
        return {"value": value.item()}
