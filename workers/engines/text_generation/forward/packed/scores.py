"""Attention whose scores a layer bends: soft caps, biases by position, and sinks that take a share."""

import torch

from workers.engines.packed_attention import AttentionCall

MOST_SCORES = 1 << 24
"""Scores that are computed at once: they are written out, unlike those of torch's own attention."""


def bends(call: AttentionCall) -> bool:
    """Whether torch's own attention does not do what the layer asks for."""
    return call.softcap is not None or call.sinks is not None or call.bias is not None


def attend_bent(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    call: AttentionCall,
    first: int = 0,
) -> torch.Tensor:
    """[..., kv heads, group, n, d] over [..., kv heads, m, d] to [..., kv heads, group, n, width of values].

    Query heads that share a key head are its `group`. `mask`, [..., n, m], is added to the scores, or true
    where a token may look. `first` is the position of the first key.
    """
    rows = query.shape[-2]
    most = max(1, MOST_SCORES * rows // max(1, query[..., 0].numel() * keys.shape[-2]))
    if rows <= most:
        return _attend(query, keys, values, mask, call, first)
    parts = []
    for start in range(0, rows, most):
        part = slice(start, start + most)
        shown = None if mask is None else mask[..., part, :]
        parts.append(_attend(query[..., part, :], keys, values, shown, call, first))
    return torch.cat(parts, dim=-2)


def _attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    call: AttentionCall,
    first: int,
) -> torch.Tensor:
    *around, shared, group, rows, width = query.shape
    scale = width**-0.5 if call.scale is None else call.scale
    # Folded, so that no key is copied for the heads that share it.
    folded = query.reshape(*around, shared, group * rows, width)
    scores = (folded @ keys.transpose(-1, -2)).float().mul_(scale)
    scores = scores.reshape(*around, shared, group, rows, -1)
    if call.softcap is not None:
        scores = scores.div_(call.softcap).tanh_().mul_(call.softcap)
    if call.bias is not None:
        bias = call.bias.of(range(first, first + keys.shape[-2]))
        scores += bias.reshape(shared, group, 1, -1)
    if mask is not None:
        hidden = mask.logical_not() if mask.dtype == torch.bool else None
        scores = scores + mask if hidden is None else scores.masked_fill_(hidden, float("-inf"))
    if call.sinks is None:
        weights = scores.softmax(-1)
    else:
        sinks = call.sinks.float().reshape(shared, group, 1, 1).expand(*scores.shape[:-1], 1)
        weights = torch.cat([scores, sinks], dim=-1).softmax(-1)[..., :-1]
    folded = weights.to(values.dtype).reshape(*around, shared, group * rows, -1)
    return (folded @ values).reshape(*around, shared, group, rows, -1)
