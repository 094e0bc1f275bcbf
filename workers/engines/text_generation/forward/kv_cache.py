"""Keys and values of every sequence, in slots of equal size that are set up once."""

from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch

from shared.domain.errors import ConfigError

MEMORY_SHARE = {"cuda": 0.85, "cpu": 0.4}
"""Of the memory that is free once the weights are loaded. A CPU's is shared with everyone else."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Sizes of one attention layer's cache. Keys and values may differ in width."""

    heads: int
    key_width: int
    value_width: int

    def bytes_per_token(self, dtype: torch.dtype) -> int:
        return self.heads * (self.key_width + self.value_width) * dtype.itemsize


class KvCache:
    """`keys[layer]` and `values[layer]` are [slots, heads, length, width].

    Zeros, and not whatever the memory held: attention multiplies masked places by 0, and 0 * NaN is
    NaN.
    """

    def __init__(
        self,
        layers: Items[LayerShape],
        slots: int,
        length: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.slots = slots
        self.length = length
        self.keys = [
            torch.zeros(slots, layer.heads, length, layer.key_width, dtype=dtype, device=device)
            for layer in layers
        ]
        self.values = [
            torch.zeros(slots, layer.heads, length, layer.value_width, dtype=dtype, device=device)
            for layer in layers
        ]

    @torch.inference_mode()
    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one slot into another."""
        for tensor in (*self.keys, *self.values):
            tensor[target, :, :length] = tensor[source, :, :length]

    @torch.inference_mode()
    def scrub(self, slot: int, start: int = 0, end: int | None = None) -> None:
        """Zero a slot from token `start` to `end`, so that NaN left there cannot reach the next sequence."""
        for tensor in (*self.keys, *self.values):
            tensor[slot, :, start:end].zero_()


def slots_that_fit(
    layers: Items[LayerShape],
    wanted: int,
    length: int,
    dtype: torch.dtype,
    free_bytes: int,
    device: torch.device,
    reserve: int = 0,
    spare: int = 0,
) -> int:
    """How many slots of `length` tokens fit the memory share, at most `wanted`.

    `reserve` bytes of what is free stay out of it, for what a step needs; `spare` slots are wanted
    besides. Raises `ConfigError` when not even one fits.
    """
    slot_bytes = length * sum(layer.bytes_per_token(dtype) for layer in layers)
    share = int(max(0, free_bytes - reserve) * MEMORY_SHARE.get(device.type, 0.5))
    fit = share // max(slot_bytes, 1) - spare
    if fit < 1:
        raise ConfigError(
            f"one sequence of {length} tokens needs {slot_bytes * (1 + spare) >> 20} MiB of cache and"
            f" {share >> 20} MiB may be used; lower limits.max_prompt_tokens or max_new_tokens"
        )
    return min(wanted, fit)
