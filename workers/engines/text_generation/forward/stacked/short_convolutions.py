"""A token's step of a short causal convolution, with less work than transformers' fallback.

The fallback calls a library's convolution of whole images for the sum of three or four products a channel.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers.activations import ACT2FN


def leaner(own: Callable[..., torch.Tensor], _file: Any) -> Callable[..., torch.Tensor]:
    """`own`, with less work where there is one token of each row. The state moves on where it lies."""

    def update(
        hidden_states: torch.Tensor,
        conv_state: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        activation: str | None = None,
    ) -> torch.Tensor:
        if hidden_states.shape[-1] != 1:
            return own(hidden_states, conv_state, weight, bias, activation)
        seen = torch.cat([conv_state, hidden_states], dim=-1).to(weight.dtype)
        conv_state.copy_(seen[..., -conv_state.shape[-1] :])
        # Summed in float32, as the library does.
        found = (seen[..., -weight.shape[-1] :].float() * weight.float()).sum(-1, keepdim=True)
        if bias is not None:
            found += bias.float()[:, None]
        found = found.to(weight.dtype)
        if activation is not None:
            found = ACT2FN[activation](found)
        return found.to(hidden_states.dtype)

    return update
