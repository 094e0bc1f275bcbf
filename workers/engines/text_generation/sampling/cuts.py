"""Applies top_k, top_p and min_p to all rows at once: which tokens of each row stay in the draw.

No row looks at another one: sums run along a row from its first element, whatever stands below it, so
that what is drawn does not depend on who shares the batch.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Cuts:
    """One bound a row, [rows, 1] each; a `top_k` of the vocabulary's size and a `top_p` of 1 are off."""

    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor
    largest_top_k: int
    """The largest `top_k` that is on, 0 when none is."""


def cut(weights: torch.Tensor, cuts: Cuts) -> tuple[torch.Tensor, torch.Tensor]:
    """What top_k leaves, of that what top_p leaves, of that what min_p leaves.

    `weights` is float64 [rows, vocabulary] with a largest element of 1. Returns weights and token ids
    [rows, candidates], likeliest first, equals in the order of their ids, and 0 for what is cut.
    """
    total = weights.cumsum(-1)[:, -1:]
    by_rank = cuts.top_k < weights.shape[-1]
    # A full sort is cheap on a device, and needs no number from it; on a CPU it is the dearest part.
    if weights.is_cuda:
        found, ids = weights.sort(dim=-1, descending=True, stable=True)
    else:
        found, ids = _candidates(weights, total, by_rank, cuts)
    rank = torch.arange(found.shape[-1], device=found.device)
    found = found * (rank < cuts.top_k)
    mass = found.cumsum(-1)
    inside = (mass - found) < cuts.top_p * torch.where(by_rank, mass[:, -1:], total)
    keep = (inside | (cuts.top_p >= 1.0)) & (found >= cuts.min_p)
    return found * keep, ids


def _candidates(
    weights: torch.Tensor, total: torch.Tensor, by_rank: torch.Tensor, cuts: Cuts
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorted, but without those tokens that a bound rules out before anything is sorted."""
    vocabulary = weights.shape[-1]
    # All tokens below this bound together weigh less than 1 - top_p of the whole.
    bound = torch.maximum((1.0 - cuts.top_p) * total / vocabulary, cuts.min_p)
    if cuts.largest_top_k:
        largest = weights.topk(cuts.largest_top_k, dim=-1).values
        place = cuts.top_k.clamp_max(cuts.largest_top_k) - 1
        bound = torch.where(by_rank, largest.gather(1, place), bound)
    rows, ids = (weights >= bound).nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=len(weights))
    width = max(1, int(counts.max()))
    column = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
    found = weights.new_full((len(weights), width), -1.0)
    names = ids.new_zeros(len(weights), width)
    found[rows, column] = weights[rows, ids]
    names[rows, column] = ids
    found, order = found.sort(dim=-1, descending=True, stable=True)
    return found.clamp_min_(0.0), names.gather(1, order)
