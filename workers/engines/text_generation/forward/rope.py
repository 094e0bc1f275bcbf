"""Keeps rotary positions right where their frequencies depend on the length of the text.

longrope has two sets of frequencies, one for texts up to the length that the model was first trained on;
dynamic NTK has new ones for every length beyond it. Keys that were rotated before lie in the cache as they
were, so what comes next depends on when each token was read.
"""

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import DynamicCache

from workers.engines.loading.positions import rope_parts, rope_window
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.transfer import upload


@dataclass(frozen=True, slots=True)
class LengthDependence:
    """What a model's positions do to a text of more than `window` tokens.

    `restarts`: transformers' `generate` reads the whole text anew when it grows past the window. `moving`:
    beyond it the frequencies change with every token.
    """

    window: int
    restarts: bool
    moving: bool


def length_dependence(model: Any) -> LengthDependence | None:
    """None for a model whose positions are the same in every text."""
    config = model.config.get_text_config()
    windows = {
        str(part["rope_type"]): window
        for part in rope_parts(config)
        if (window := rope_window(config, part)) is not None
    }
    if not windows:
        return None
    window = min(windows.values())
    return LengthDependence(window, _restarts(model, window), "dynamic" in windows)


def _restarts(model: Any, window: int) -> bool:
    """Asked of the model itself, with a cache that claims to hold a text as long as the window."""
    cache = DynamicCache()
    nothing = torch.zeros(1, 1, window, 0, dtype=model.dtype, device=model.device)
    cache.update(nothing, nothing, 0)
    ids = torch.zeros(1, window + 1, dtype=torch.long, device=model.device)
    inputs = model.prepare_inputs_for_generation(
        ids, next_sequence_length=1, past_key_values=cache, attention_mask=torch.ones_like(ids)
    )
    return inputs.get("past_key_values") is None


def forget_lengths(module: torch.nn.Module) -> None:
    """Make a rotary module's dynamic frequencies fresh ones: they remember the longest text so far."""
    for name in [name for name in vars(module) if name.endswith("max_seq_len_cached")]:
        prefix = name.removesuffix("max_seq_len_cached")
        original = getattr(module, f"{prefix}original_inv_freq", None)
        if original is not None:
            # A copy: longrope's are written in place.
            module.register_buffer(f"{prefix}inv_freq", original.clone(), persistent=False)
            setattr(module, name, module.original_max_seq_len)


class RotaryByRow:
    """Positions of texts of different lengths in the rows of a pass, each as in a text that is alone.

    The model's own modules go by the longest row of a pass and remember it. So each row is asked for by
    itself, with nothing remembered; rows within the window, which all have the same frequencies, together.
    """

    def __init__(self, model: Any, window: int) -> None:
        self._window = window
        self._modules = [module for module in model.modules() if _is_rotary(module)]
        for module in self._modules:
            module.forward = partial(self._forward, module, module.forward)

    def detach(self) -> None:
        """Give the modules their own forward pass back."""
        for module in self._modules:
            del module.forward

    def _forward(
        self,
        module: torch.nn.Module,
        forward: Callable[..., Any],
        x: torch.Tensor,
        position_ids: torch.Tensor,
        *rest: Any,
        **options: Any,
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """`position_ids` are [..., rows, T]; of each row cosines and sines, or both as a complex number."""
        count = position_ids.shape[-2]
        alike = count == 1 or int(position_ids.max()) < self._window
        rows = [position_ids] if alike else [position_ids.narrow(-2, n, 1) for n in range(count)]
        found = []
        for row in rows:
            forget_lengths(module)
            found.append(forward(x, row, *rest, **options))
        if isinstance(found[0], torch.Tensor):
            return torch.cat(found, dim=-3)
        return tuple(torch.cat(parts, dim=-3) for parts in zip(*found, strict=True))


class MixedRotary:
    """Positions of long and other texts side by side in one row, as a model would compute them for each.

    The model's own modules are asked twice, once as in a text of at most `window` tokens and once as in a
    longer one, and each token takes the one that it needs.
    """

    def __init__(self, model: Any, window: int) -> None:
        self.window = window
        self.long: torch.Tensor | None = None
        """bool [1, T, 1], the tokens that are read as those of long texts; None when none is."""
        self._modules = [module for module in model.modules() if _is_rotary(module)]
        for module in self._modules:
            module.forward = partial(self._forward, module.forward)

    def detach(self) -> None:
        """Give the modules their own forward pass back."""
        for module in self._modules:
            del module.forward

    def mark(self, chunks: Items[Chunk], device: torch.device) -> None:
        """The next row has these chunks' tokens."""
        long = [
            chunk.long or position >= self.window
            for chunk in chunks
            for position in range(chunk.start, chunk.end)
        ]
        self.long = upload(long, torch.bool, device)[None, :, None] if any(long) else None

    def _forward(
        self,
        forward: Callable[..., tuple[torch.Tensor, ...]],
        x: torch.Tensor,
        position_ids: torch.Tensor,
        *rest: Any,
        **options: Any,
    ) -> tuple[torch.Tensor, ...]:
        if self.long is None:
            return forward(x, position_ids, *rest, **options)
        beyond = torch.full_like(position_ids[:, :1], self.window)
        near = forward(x, position_ids.clamp(max=self.window - 1), *rest, **options)
        far = forward(x, torch.cat([position_ids, beyond], dim=1), *rest, **options)
        long = self.long
        return tuple(torch.where(long, f[:, :-1], n) for n, f in zip(near, far, strict=True))


def _is_rotary(module: torch.nn.Module) -> bool:
    return hasattr(module, "rope_init_fn") or any(
        name.endswith("inv_freq") for name, _ in module.named_buffers(recurse=False)
    )
