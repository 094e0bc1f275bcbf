"""Finds the modules of a model that have a pass in `fused_layers`, and gives it to them.

A class does not tell what a module does: each pass is tried beside the module's own on random rows, with its
own weights, and is left out where the two differ. The logits of the whole model are tried at load besides,
see `trial`.
"""

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from typing import Any

import torch

from workers.engines.packed_attention import (
    FAULTS,
    HOOK,
    AttentionCall,
    PackedAttention,
    Unpackable,
)
from workers.engines.text_generation.forward.packed.few_rows import LEAST, MOST, is_plain
from workers.engines.text_generation.forward.packed.fused_layers import (
    Attention,
    Fused,
    Gated,
    Layer,
    Norm,
)

ROWS = (3, LEAST, MOST + 1)
"""Numbers of rows that a pass is tried with: one for each way in which products run."""
FAR = 1_000_000
"""Where the rows of a trial stand: what a layer makes of positions besides the rotation shows there."""
CLOSE = 1e-4
"""Most that a pass may differ, as a share of the largest number that the module's own gives."""
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
GATED = ("gate_proj", "up_proj", "down_proj")


class Recorder:
    """In the place of attention: gives queries back, and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[AttentionCall] = []

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """See `PackedAttention`."""
        self.calls.append(call)
        return call.query.transpose(1, 2)


def attach(model: Any, device: torch.device) -> bool:
    """Give modules passes that do what their own do; returns whether there is one.

    A module whose products are computed in a way of their own keeps its pass. Attention asks the hook of
    `packed_attention`, which has to be attached.
    """
    if device.type != "cpu":
        return False
    modules, tried = list(model.modules()), dict[tuple[Any, ...], bool]()
    # Parts come before the layers that are made of them.
    for module in reversed(modules):
        if "forward" not in vars(module) and (fused := _fused(module, tried)) is not None:
            module.forward = fused
    return any(isinstance(vars(module).get("forward"), Fused) for module in modules)


def detach(model: Any) -> None:
    """Give modules their own forward pass back."""
    for module in model.modules():
        if isinstance(vars(module).get("forward"), Fused):
            del module.forward


@torch.inference_mode()
def _fused(module: Any, tried: dict[tuple[Any, ...], bool]) -> Fused | None:
    """A pass that does what the module's own does. `tried`: by class and sizes, what was found before."""
    kind = (type(module), *(weight.shape for weight in module.parameters()))
    try:
        if _is_norm(module):
            norm = Norm(module)
            return norm if _same(module, norm, ROWS) else None
        if _has_plain(module, GATED) and callable(getattr(module, "act_fn", None)):
            gated = Gated(module)
            if kind not in tried:
                tried[kind] = _same(module, gated, ROWS)
            return gated if tried[kind] else None
        if _has_plain(module, PROJECTIONS) and hasattr(module, HOOK):
            # What it asks of its hook, such as a window, is each layer's own.
            if tried.get(kind, True):
                attention, same = _attention(module, ROWS[:1] if kind in tried else ROWS)
                tried[kind] = same
                return attention if same else None
            return None
        if _is_layer(module):
            layer = Layer(module)
            if kind not in tried:
                tried[kind] = _same_layer(module, layer)
            return layer if tried[kind] else None
    except (*FAULTS, Unpackable):
        # It takes or has something else than the modules that a pass is for.
        return None
    return None


def _is_norm(module: Any) -> bool:
    if not type(module).__name__.endswith("RMSNorm") or not hasattr(module, "variance_epsilon"):
        return False
    weights = dict(module.named_parameters())
    plain = list(weights) == ["weight"] and module.weight.dim() == 1
    return plain and module.weight.dtype == torch.float32


def _has_plain(module: Any, names: tuple[str, ...]) -> bool:
    return all(is_plain(getattr(module, name, None)) for name in names)


def _is_layer(module: Any) -> bool:
    kinds = {
        "self_attn": Attention,
        "mlp": Gated,
        "input_layernorm": Norm,
        "post_attention_layernorm": Norm,
    }
    parts = dict(module.named_children())
    return parts.keys() == kinds.keys() and all(
        isinstance(vars(parts[name]).get("forward"), kind) for name, kind in kinds.items()
    )


def _same(module: Any, fused: Callable[..., Any], numbers: Items[int]) -> bool:
    """Whether a pass over rows gives what the module's own does."""
    width = next(module.parameters()).shape[-1]
    rows = [_random(1, count, width) for count in numbers]
    return all(_close(type(module).forward(module, each), fused(each)) for each in rows)


def _attention(module: Any, numbers: Items[int]) -> tuple[Attention, bool]:
    """The pass of a layer of attention, and whether it asks and gives what the layer's own does."""
    recorder = Recorder()
    with _hooked(module, recorder):
        for count in numbers:
            rows, options = _random(1, count, module.q_proj.in_features), _options(count, module)
            own, _ = type(module).forward(module, hidden_states=rows, **options)
            asked = recorder.calls.pop()
            fused = Attention(module, asked)
            given, _ = fused(hidden_states=rows, **options)
            parts = zip((own, *asked[1:4]), (given, *recorder.calls.pop()[1:4]), strict=True)
            if asked.mask is not None or not all(_close(*pair) for pair in parts):
                return fused, False
    return fused, True


def _same_layer(module: Any, layer: Layer) -> bool:
    attention = module.self_attn
    with _hooked(attention, Recorder()):
        for count in ROWS:
            rows, options = (
                _random(1, count, attention.q_proj.in_features),
                _options(count, attention),
            )
            own = type(module).forward(module, rows, **options)
            if not _close(own, layer(rows, **options)):
                return False
    return True


@contextmanager
def _hooked(module: Any, hook: PackedAttention) -> Iterator[None]:
    """While a layer of attention asks another hook than its own."""
    before = getattr(module, HOOK)
    setattr(module, HOOK, hook)
    try:
        yield
    finally:
        setattr(module, HOOK, before)


def _options(count: int, attention: Any) -> dict[str, Any]:
    """What a model tells its layers besides their rows."""
    angles = 6 * _random(1, count, attention.head_dim // 2).repeat(1, 1, 2)
    return {
        "position_embeddings": (angles.cos(), angles.sin()),
        "position_ids": torch.arange(FAR, FAR + count)[None],
        "attention_mask": None,
    }


def _random(*sizes: int) -> torch.Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(0))


def _close(own: torch.Tensor, other: torch.Tensor) -> bool:
    if own.shape != other.shape:
        return False
    return bool((own - other).abs().max() <= CLOSE * own.abs().max())
