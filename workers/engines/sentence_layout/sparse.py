"""Makes a sparse vector of a text's logits: SPLADE, as sentence-transformers' SpladePooling computes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from shared.domain.errors import ConfigError
from workers.engines.loading.local_model import read_json
from workers.engines.sentence_layout.transformer_settings import check_keys

STRATEGIES = ("max", "sum")
ACTIVATIONS = {"relu": 1, "log1p_relu": 2}
"""How often the logarithm is taken."""


@dataclass(frozen=True, slots=True)
class Splade:
    """log(1 + relu(logits)), the logarithm taken `logarithms` times, then `strategy` over the tokens."""

    strategy: str = "max"
    logarithms: int = 1

    @classmethod
    def read(cls, folder: Path, where: str) -> Self:
        """Of a module's folder. Raises `ConfigError` naming what is not honoured."""
        file = folder / "config.json"
        config, place = read_json(file, where), f"{where}: {file}"
        known = ("pooling_strategy", "activation_function", "embedding_dimension", "chunk_size")
        check_keys(config, (*known, "word_embedding_dimension"), place)
        strategy = config.get("pooling_strategy", "max")
        name = config.get("activation_function", "relu")
        if strategy not in STRATEGIES or not isinstance(name, str) or name not in ACTIVATIONS:
            raise ConfigError(
                f"{place}: pooling_strategy must be one of {', '.join(STRATEGIES)}, activation_function one"
                f" of {', '.join(ACTIVATIONS)}; got {strategy!r}, {name!r}"
            )
        return cls(strategy, ACTIVATIONS[name])

    def pool(self, logits: torch.Tensor) -> torch.Tensor:
        """[tokens, vocabulary] to [vocabulary]"""
        if self.strategy == "max":
            # The functions grow, so the largest logit has the largest value.
            return self._activate(logits.amax(dim=0))
        return self._activate(logits).sum(dim=0)

    def _activate(self, logits: torch.Tensor) -> torch.Tensor:
        found = logits.relu()
        for _ in range(self.logarithms):
            found = found.log1p()
        return found


def strongest(vector: torch.Tensor, most: int | None) -> torch.Tensor:
    """The vector with only its `most` largest values left, all of them for None."""
    if most is None or most >= len(vector):
        return vector
    values, places = vector.topk(most)
    return torch.zeros_like(vector).scatter_(0, places, values)
