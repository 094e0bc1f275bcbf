"""Adds the biases that requests ask for, and takes out of the draw what they or their length forbid.

Only rows that ask for something cost anything, and no row touches another.
"""

import math
from collections.abc import Sequence as Items

import torch

from workers.engines.text_generation.transfer import upload
from workers.engines.texts.sampling import Draw


def add_bias(scores: torch.Tensor, draws: Items[Draw]) -> None:
    """Add each row's `bias` to `scores`, float64 [rows, vocabulary], in place."""
    vocabulary = scores.shape[-1]
    found = [
        (row * vocabulary + token, value)
        for row, draw in enumerate(draws)
        for token, value in draw.sampling.bias
    ]
    if found:
        places, values = zip(*found, strict=True)
        at = upload(places, torch.long, scores.device)
        scores.view(-1).index_add_(0, at, upload(values, scores.dtype, scores.device))


def forbid(scores: torch.Tensor, draws: Items[Draw]) -> None:
    """Leave no chance, in place, to what would complete a bad word, or end a text that is too short."""
    vocabulary = scores.shape[-1]
    places = [
        row * vocabulary + token for row, draw in enumerate(draws) for token in _forbidden(draw)
    ]
    if places:
        at = upload(places, torch.long, scores.device)
        scores.view(-1).index_fill_(0, at, -math.inf)


def _forbidden(draw: Draw) -> list[int]:
    found = list(draw.sampling.ends) if draw.too_short else []
    if (words := draw.sampling.bad_words) is not None:
        found += words.banned(draw.tokens[draw.prompt_length :])
    return found
