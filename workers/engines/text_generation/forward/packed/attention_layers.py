"""Routes a model's attention layers to packed attention, those of older architectures too.

The layers of some architectures hold attention in their own forward pass, so nothing can be registered for it
with transformers. Each such layer gets a forward pass, or the part of it that attends, which asks the hook of
`packed_attention`. Whether the logits are still the model's own is tried at load, as for any other model.

BLOOM, MPT and Falcon add a number by head and position to their scores, as ALiBi does
(https://arxiv.org/abs/2108.12409). It is read off the function that builds it for the model.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch

from workers.engines import packed_attention
from workers.engines.packed_attention import (
    HOOK,
    NAME,
    AttentionCall,
    PackedAttention,
    PositionBias,
    Unpackable,
)

NUMBER = "layer_idx"
"""What a layer calls its number."""
NOT_ROTARY = torch.empty(0), torch.empty(0)
LENT = "older_attention_number"
"""Marks a layer that has its number from here."""


def attach(model: Any, attention: PackedAttention, name: str = NAME) -> str:
    """Route a model's attention through `attention`; returns the implementation it had before.

    `name` is that of `packed_attention.attach`. Raises `Unpackable` where no layer can be reached.
    """
    found = list(_layers(model))
    if not found:
        return packed_attention.attach(model, attention, name)
    biases: dict[str, PositionBias | None] = {}
    for number, (layer, kind) in enumerate(found):
        attribute, attend, bias_of = KINDS[kind]
        if not isinstance(getattr(layer, NUMBER, None), int):
            setattr(layer, NUMBER, number)
            setattr(layer, LENT, True)
        if kind not in biases:
            biases[kind] = bias_of(model, layer)
        setattr(layer, HOOK, attention)
        setattr(layer, attribute, partial(attend, layer, biases[kind]))
    before: str = model.config._attn_implementation
    return before


def detach(model: Any, before: str) -> None:
    """Give a model back its own attention, whose implementation was named `before`."""
    found = list(_layers(model))
    for layer, kind in found:
        vars(layer).pop(KINDS[kind][0], None)
        vars(layer).pop(HOOK, None)
        if vars(layer).pop(LENT, False):
            delattr(layer, NUMBER)
    if not found:
        packed_attention.detach(model, before)


def positions_of(model: Any, positions: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a model's forward pass is told of the tokens' positions [T], if it asks.

    One that does not may still be packed when its attention alone tells positions apart. Raises `Unpackable`.
    """
    if _takes_positions(type(model).forward):
        return {"position_ids": positions[None]}
    if not any(kind in WITHOUT_POSITIONS for _, kind in _layers(model)):
        raise Unpackable(f"{type(model).__name__} takes no position ids")
    return {}


@cache
def _takes_positions(forward: Callable[..., Any]) -> bool:
    return "position_ids" in inspect.signature(forward).parameters


def _layers(model: Any) -> Iterator[tuple[torch.nn.Module, str]]:
    for module in model.modules():
        kind = type(module)
        name = f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}"
        if name in KINDS:
            yield module, name


def _hooked(layer: Any, *arguments: Any, **options: Any) -> torch.Tensor:
    """[1, T, heads, d]; `arguments` are query, key and value."""
    found: torch.Tensor = getattr(layer, HOOK).attend(AttentionCall(layer, *arguments, **options))
    return found


def _bloom(
    layer: Any,
    bias: PositionBias,
    hidden_states: torch.Tensor,
    residual: torch.Tensor,
    **_rest: Any,
) -> tuple[torch.Tensor, None]:
    parts = layer._reshape(layer.query_key_value(hidden_states))
    found = _hooked(layer, *parts, scale=layer.inv_norm_factor, bias=bias)
    return layer.dense(found.flatten(2)) + residual, None


def _mpt(
    layer: Any, bias: PositionBias, hidden_states: torch.Tensor, *_: Any, **_rest: Any
) -> tuple[torch.Tensor, None]:
    mixed = layer.Wqkv(hidden_states)
    if layer.clip_qkv:
        mixed = mixed.clamp(min=-layer.clip_qkv, max=layer.clip_qkv)
    parts = [
        part.unflatten(2, (layer.n_heads, layer.head_dim)).transpose(1, 2)
        for part in mixed.chunk(3, dim=2)
    ]
    found = _hooked(layer, *parts, scale=layer.softmax_scale, bias=bias)
    return layer.out_proj(found.flatten(2)), None


def _falcon(
    layer: Any,
    bias: PositionBias | None,
    hidden_states: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor] = NOT_ROTARY,
    **_rest: Any,
) -> tuple[torch.Tensor, None]:
    parts = layer._split_heads(layer.query_key_value(hidden_states))
    query, key, value = (part.transpose(1, 2) for part in parts)
    # Where query heads share a key it was copied for each of them.
    apart = key.shape[1] // layer.num_kv_heads
    key, value = key[:, ::apart], value[:, ::apart]
    if bias is None:
        rotate = sys.modules[type(layer).__module__].apply_rotary_pos_emb
        query, key = rotate(query, key, *position_embeddings)
    found = _hooked(layer, query, key, value, scale=layer.inv_norm_factor, bias=bias)
    return layer.dense(found.flatten(2)), None


def _xglm(
    layer: Any, bias: None, hidden_states: torch.Tensor, **_rest: Any
) -> tuple[torch.Tensor, None]:
    parts = [
        part(hidden_states).unflatten(2, (layer.num_heads, layer.head_dim)).transpose(1, 2)
        for part in (layer.q_proj, layer.k_proj, layer.v_proj)
    ]
    found = _hooked(layer, *parts, scale=layer.scaling, bias=bias)
    return layer.out_proj(found.flatten(2)), None


def _attn(
    scale: Callable[[Any], float],
    layer: Any,
    _bias: None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *_: Any,
) -> tuple[torch.Tensor, None]:
    """The part of a layer that attends, [1, heads, T, d]. `scale` multiplies its scores."""
    window = None
    if getattr(layer, "attention_type", None) == "local":
        window = layer.config.window_size
    found = _hooked(layer, query, key.to(query.dtype), value, scale=scale(layer), window=window)
    return found.transpose(1, 2), None


def _gpt1(
    layer: Any,
    bias: None,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *_: Any,
) -> list[torch.Tensor]:
    """Its keys are [1, heads, d, T]."""
    scale = query.shape[-1] ** -0.5 if layer.scale else 1.0
    return [_attn(lambda _: scale, layer, bias, query, key.transpose(-1, -2), value)[0]]


def _none(_model: Any, _layer: Any) -> None:
    return None


def _mask_bias(model: Any, layer: Any) -> PositionBias | None:
    """Of BLOOM and Falcon, whose function is told positions by a mask of ones."""
    if not getattr(model.config, "alibi", True):
        return None
    build = sys.modules[type(layer).__module__].build_alibi_tensor
    factor = 1.0 if type(layer).__name__ == "BloomAttention" else layer.inv_norm_factor

    def table(length: int) -> torch.Tensor:
        ones = torch.ones(1, length, dtype=torch.long, device=model.device)
        found: torch.Tensor = build(ones, layer.num_heads, dtype=model.dtype)[:, 0]
        return found.float() * factor

    return PositionBias(table)


def _mpt_bias(model: Any, layer: Any) -> PositionBias:
    build = sys.modules[type(layer).__module__].build_mpt_alibi_tensor
    longest = model.config.max_seq_len

    def table(length: int) -> torch.Tensor:
        found: torch.Tensor = build(layer.n_heads, max(longest, length), device=model.device)
        return found[:, 0, :length].float()

    return PositionBias(table)


KINDS: dict[str, tuple[str, Callable[..., Any], Callable[[Any, Any], PositionBias | None]]] = {
    "modeling_bloom.BloomAttention": ("forward", _bloom, _mask_bias),
    "modeling_mpt.MptAttention": ("forward", _mpt, _mpt_bias),
    "modeling_falcon.FalconAttention": ("forward", _falcon, _mask_bias),
    "modeling_gptj.GPTJAttention": (
        "_attn",
        partial(_attn, lambda layer: 1 / layer.scale_attn),
        _none,
    ),
    "modeling_codegen.CodeGenAttention": (
        "_attn",
        partial(_attn, lambda layer: 1 / layer.scale_attn),
        _none,
    ),
    "modeling_gpt_neo.GPTNeoSelfAttention": ("_attn", partial(_attn, lambda _: 1.0), _none),
    "modeling_gpt_neox_japanese.GPTNeoXJapaneseAttention": (
        "_attn",
        partial(_attn, lambda layer: 1 / layer.norm_factor),
        _none,
    ),
    "modeling_openai.Attention": ("_attn", _gpt1, _none),
    "modeling_xglm.XGLMAttention": ("forward", _xglm, _none),
}
"""By file and class of a layer: what is replaced in it, by what, and how its bias is made."""

WITHOUT_POSITIONS = ("modeling_bloom.BloomAttention", "modeling_mpt.MptAttention")
