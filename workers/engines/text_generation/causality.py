"""Is it a causal model, whatever it is called? Asked of the model itself."""

import inspect
from typing import Any

import torch

from shared.domain.errors import ConfigError
from workers.engines.loading.placement import Placement
from workers.engines.packed_attention import FAULTS
from workers.engines.text_generation.forward.trial import TOLERANCE

TOKENS = 12
KEPT = 8
"""The first tokens of two texts that end differently."""


def check_causal(model: Any, placement: Placement, where: str) -> None:
    """Raise `ConfigError` for a model whose logits do not make a text, one token after the other."""
    vocabulary = int(model.get_input_embeddings().num_embeddings)
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(vocabulary, (1, TOKENS), generator=generator).to(placement.device)
    other = ids.clone()
    other[:, KEPT:] = (ids[:, KEPT:] + vocabulary // 2) % vocabulary
    name, most = type(model).__name__, TOLERANCE[placement.dtype]
    logits = _logits(model, ids)
    if _apart(logits[:KEPT], _logits(model, other)[:KEPT]) > most:
        raise ConfigError(
            f"{where}: {name} looks at the tokens that follow; it is no causal language model"
        )
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return
    try:
        positions = torch.arange(TOKENS, device=placement.device)[None]
        numbered = _logits(model, ids, position_ids=positions)
    except FAULTS as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return
    if _apart(logits, numbered) > most:
        raise ConfigError(
            f"{where}: {name} counts positions from another number in its forward pass than in"
            " transformers' generate; which of the two its weights are made for cannot be told"
        )


def _logits(model: Any, ids: torch.Tensor, **options: Any) -> torch.Tensor:
    """float32 [tokens, vocabulary]"""
    logits: torch.Tensor = model(input_ids=ids, use_cache=False, **options).logits[0].float()
    return logits


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The median of all positions, in the unit of `TOLERANCE`.

    Rounding may send a token to another expert; what looks ahead differs everywhere. Numbers that are none
    are left to the step that meets them.
    """
    errors = (one - other).pow(2).mean(-1).sqrt() / one.std(-1).clamp_min(1e-6)
    return float(errors.median())
