"""Makes one vector of a text's token vectors: the modes of sentence-transformers' Pooling."""

import math
from collections.abc import Callable, Sequence

import torch

Pool = Callable[[torch.Tensor, int], torch.Tensor]
"""[tokens, width] and how many of the first tokens count for nothing, to [width]."""


def _cls(tokens: torch.Tensor, skip: int) -> torch.Tensor:
    return tokens[skip]


def _max(tokens: torch.Tensor, skip: int) -> torch.Tensor:
    return tokens[skip:].amax(dim=0)


def _mean(tokens: torch.Tensor, skip: int) -> torch.Tensor:
    return tokens[skip:].mean(dim=0)


def _mean_sqrt_len(tokens: torch.Tensor, skip: int) -> torch.Tensor:
    return tokens[skip:].sum(dim=0) / math.sqrt(len(tokens) - skip)


def _weighted_mean(tokens: torch.Tensor, skip: int) -> torch.Tensor:
    """A token weighs as much as its place in the text, from 1, the prompt's tokens counted in."""
    weights = torch.arange(skip + 1, len(tokens) + 1, device=tokens.device, dtype=tokens.dtype)
    weighted: torch.Tensor = (tokens[skip:] * weights[:, None]).sum(dim=0)
    return weighted / weights.sum()


def _last(tokens: torch.Tensor, skip: int) -> torch.Tensor:  # noqa: ARG001  one signature for all
    return tokens[-1]


MODES: dict[str, Pool] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}


def pool(tokens: torch.Tensor, modes: Sequence[str], skip: int = 0) -> torch.Tensor:
    """[tokens, width] to [modes * width]: the vectors of all modes, one behind the other.

    The first `skip` tokens are left out; there must be more tokens than that.
    """
    return torch.cat([MODES[mode](tokens, skip) for mode in modes])
