"""Lets many sequences share one forward pass without padding.

Their tokens lie side by side in one row, [1, T]. Everything in a transformer but attention works on
each token alone, so only attention has to know where one sequence ends: transformers calls the
function registered here, and it asks the object that the engine hung on the model's modules. That
object belongs to one model; nothing is kept in this module.

The mechanism is transformers' AttentionInterface:
https://huggingface.co/docs/transformers/attention_interface
"""

from typing import Any, NamedTuple, Protocol

import torch
from transformers import AttentionInterface

NAME = "truthgpt-packed"
HOOK = "packed_attention"
UNSUPPORTED = ("softcap", "s_aux", "position_bias", "head_mask")
"""Arguments that some architectures pass and that change the result: better refused than ignored."""

FAULTS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What a model raises that is run in a way it was not written for."""


class Unpackable(Exception):
    """The model asks for something that packed attention does not do. Says what."""


class AttentionCall(NamedTuple):
    """What a layer asks of attention over a packed row of T tokens.

    `query` is [1, heads, T, d]; `key` and `value` are [1, kv heads, T, d]. `module` is the layer, `scale`
    multiplies the scores, `window` is how many tokens back the layer may look.
    """

    module: torch.nn.Module
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scale: float | None = None
    window: int | None = None


class PackedAttention(Protocol):
    """Attention over a packed row."""

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Returns [1, T, heads, d]. Raises `Unpackable` for what it cannot do."""


def attach(model: Any, attention: PackedAttention) -> str:
    """Route a model's attention through `attention`; returns the implementation it had before."""
    before: str = model.config._attn_implementation
    if not getattr(model, "_supports_attention_backend", False):
        raise Unpackable(f"{type(model).__name__} has no exchangeable attention")
    for module in model.modules():
        setattr(module, HOOK, attention)
    model.set_attn_implementation(NAME)
    return before


def detach(model: Any, before: str) -> None:
    """Give a model back the attention implementation named `before`."""
    for module in model.modules():
        if hasattr(module, HOOK):
            delattr(module, HOOK)
    model.set_attn_implementation(before)


def _packed(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,  # noqa: ARG001  part of the interface; models are in eval mode
    **options: Any,
) -> tuple[torch.Tensor, None]:
    for name in UNSUPPORTED:
        if options.get(name) is not None:
            raise Unpackable(f"its attention wants {name}")
    if attention_mask is not None:
        raise Unpackable("it builds an attention mask of its own")
    attention: PackedAttention = getattr(module, HOOK)
    window = options.get("sliding_window")
    call = AttentionCall(module, query, key, value, scaling, window)
    return attention.attend(call), None


AttentionInterface.register(NAME, _packed)
