"""Lets many sequences share one forward pass without padding.

Their tokens lie side by side in one row, [1, T]. Everything in a transformer but attention works on
each token alone, so only attention has to know where one sequence ends: transformers calls the
function registered here, and it asks the object that the engine hung on the model's modules. That
object belongs to one model; nothing is kept in this module.

The mechanism is transformers' AttentionInterface:
https://huggingface.co/docs/transformers/attention_interface
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "truthgpt-packed"
"""The implementation that runs: transformers makes no masks for it."""
MASKED = "truthgpt-packed-masked"
"""The implementation that asks: each layer is handed the mask that transformers makes for it."""
HOOK = "packed_attention"
EXCHANGEABLE = "_supports_attention_backend"
"""What a class of transformers says of its attention."""
RULE = "truthgpt_rule"
UNSUPPORTED = ("position_bias", "head_mask")
"""Arguments that some architectures pass and that change the result: better refused than ignored."""

FAULTS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What a model raises that is run in a way it was not written for."""

MaskRule = Callable[[Any, Any, torch.Tensor, torch.Tensor], torch.Tensor]
"""Of a batch, a head, positions of tokens and positions that they might look at: whether they may."""


class Unpackable(Exception):
    """The model asks for something that packed attention does not do. Says what."""


class PositionBias:
    """What a layer adds to the scores of keys, by head and by the key's position, as ALiBi does.

    `make` returns float32 [heads, length] for the first `length` positions.
    """

    def __init__(self, make: Callable[[int], torch.Tensor]) -> None:
        self._make = make
        self._table = torch.empty(0, 0)

    def of(self, keys: range) -> torch.Tensor:
        """The bias of each head at these distances: [heads, keys]."""
        if keys.stop > self._table.shape[1]:
            self._table = self._make(max(keys.stop, 2 * self._table.shape[1]))
        return self._table[:, keys.start : keys.stop]


class AttentionCall(NamedTuple):
    """What a layer asks of attention over a packed row of T tokens.

    `query` is [1, heads, T, d]; `key` and `value` are [1, kv heads, T, d]. `module` is the layer, `scale`
    multiplies the scores, `window` is how many tokens back the layer says that it may look. `softcap` bounds
    the scores; `sinks` [heads] are scores of a token that has no value. `mask` is what the layer was given,
    `bias` what is added to the scores by position.
    """

    module: torch.nn.Module
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scale: float | None = None
    window: int | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    bias: PositionBias | None = None

    @property
    def rule(self) -> MaskRule | None:
        """How transformers made the mask, None when the layer has none. Raises `Unpackable`."""
        if self.mask is None:
            return None
        rule: MaskRule | None = getattr(self.mask, RULE, None)
        if rule is None:
            raise Unpackable("it builds an attention mask of its own")
        return rule


class PackedAttention(Protocol):
    """Attention over a packed row."""

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Returns [1, T, heads, d]. Raises `Unpackable` for what it cannot do."""


def attach(model: Any, attention: PackedAttention, name: str = NAME) -> str:
    """Route a model's attention through `attention`; returns the implementation it had before."""
    before: str = model.config._attn_implementation
    # A class of several senses may not say it, where the language model in it does.
    if not any(getattr(part, EXCHANGEABLE, False) for part in (model, model.get_decoder())):
        raise Unpackable(f"{type(model).__name__} has no exchangeable attention")
    for module in model.modules():
        setattr(module, HOOK, attention)
    model.set_attn_implementation(name)
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
    attention: PackedAttention = getattr(module, HOOK)
    call = AttentionCall(
        module,
        query,
        key,
        value,
        scaling,
        options.get("sliding_window"),
        options.get("softcap"),
        options.get("s_aux"),
        attention_mask,
    )
    return attention.attend(call), None


def _mask(q_length: int, kv_length: int, mask_function: MaskRule, **options: Any) -> torch.Tensor:
    """A mask whose values nobody reads, with the rule by which transformers would fill it in."""
    mask = torch.ones(1, 1, q_length, kv_length, dtype=torch.bool, device=options.get("device"))
    setattr(mask, RULE, mask_function)
    return mask


AttentionInterface.register(NAME, _packed)
AttentionInterface.register(MASKED, _packed)
AttentionMaskInterface.register(MASKED, _mask)
