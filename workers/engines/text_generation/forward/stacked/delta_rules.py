"""A token's step of linear attention by a delta rule, with less work than transformers' fallbacks.

A head keeps a matrix S, from which a key k reads the value that is known under it. A step lets S fade and
moves it by what the new value v differs: S' = fade S + k (beta (v - k fade S)). Qwen3-Next, Qwen3.5 and OLMo
hybrid fade a whole head (https://arxiv.org/abs/2412.06464), Kimi Linear and Bailing hybrid each number of a
key (https://arxiv.org/abs/2510.26692). The fallbacks go six times through all matrices and make a new one at
each. Here they are read once, for key and query together, and written once.
"""

from collections.abc import Callable
from typing import Any

import torch


def leaner(own: Callable[..., Any], file: Any) -> Callable[..., Any]:
    """`own`, which steps through tokens, with less work where there is one token of each row.

    The states [rows, heads, K, V], float32, are then written where they lie. `file` has the norm of keys and
    queries. No number of a row depends on how many rows there are.
    """

    def update(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        g: torch.Tensor,
        beta: torch.Tensor,
        initial_state: torch.Tensor | None = None,
        *,
        use_qk_l2norm_in_kernel: bool = False,
        **options: Any,
    ) -> Any:
        if initial_state is None or initial_state.dtype != torch.float32 or query.shape[1] != 1:
            return own(
                query,
                key,
                value,
                g=g,
                beta=beta,
                initial_state=initial_state,
                use_qk_l2norm_in_kernel=use_qk_l2norm_in_kernel,
                **options,
            )
        tokens = [part[:, 0].float() for part in (query, key, value, g, beta)]
        if use_qk_l2norm_in_kernel:
            tokens[:2] = [file.l2norm(part) for part in tokens[:2]]
        read = _moved(initial_state, *tokens)
        return read[:, None].to(query.dtype), initial_state

    return update


def _moved(
    states: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    g: torch.Tensor,
    beta: torch.Tensor,
) -> torch.Tensor:
    """States move on in place; returns what the queries read from them then, [rows, heads, V].

    `query` and `key` are [rows, groups, K], `value` [rows, heads, V], `beta` [rows, heads], and `g`, by whose
    exponential a state fades, [rows, heads] or [rows, heads, K].
    """
    apart = value.shape[1] // key.shape[1]
    query, key = (part.repeat_interleave(apart, dim=1) for part in (query, key))
    query = query * query.shape[-1] ** -0.5
    fade = g.exp() if g.dim() == key.dim() else g.exp()[..., None]
    both = torch.stack((key * fade, query * fade), dim=-2)
    known, seen = torch.stack([*map(torch.bmm, both, states)]).unbind(-2)
    change = (value - known) * beta[..., None]
    # One row after the other, so that it is written while the processor's cache has it.
    for row, state in enumerate(states):
        state.mul_(fade[row, ..., None]).addcmul_(key[row, ..., None], change[row, :, None])
    return seen + (query * key).sum(-1, keepdim=True) * change
