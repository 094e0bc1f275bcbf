"""A model whose every batch takes 20 ms and no processor: what is left is the system around it."""

import time
from typing import Any

from workers.engines.one_shot import OneShotModel

STEP_SECONDS = 0.02


class Sleeper(OneShotModel):
    """Says what it was told, as the load generator wants to hear it."""

    def predict(self, inputs: list[Any]) -> list[Any]:
        time.sleep(STEP_SECONDS)
        return [{"text": item} for item in inputs]
