"""A model that fails on everything, for what clients do then."""

from typing import Any

from workers.engines.one_shot import OneShotModel


class Broken(OneShotModel):
    """Loads, and fails."""

    def load(self, device: str) -> None:
        return

    def predict(self, inputs: list[Any]) -> list[Any]:
        raise RuntimeError(f"cannot do {len(inputs)} of them")
