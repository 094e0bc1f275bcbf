"""Keys and values of every sequence, in slots of equal size that are set up once."""

from collections.abc import Sequence as Items
from dataclasses import dataclass

import torch

from shared.domain.errors import ConfigError
from workers.engines.row_blocks import ROWS
from workers.engines.text_generation.forward.packed.reach import FULL, Reach

MEMORY_SHARE = {"cuda": 0.85, "cpu": 0.4}
"""Of the memory that is free once the weights are loaded. A CPU's is shared with everyone else."""
REWIND = 256
"""Most tokens that a ring holds beyond what the next step needs, for texts that begin alike."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Sizes of one attention layer's cache, and how far it looks. Keys and values may differ in width."""

    heads: int
    key_width: int
    value_width: int
    reach: Reach = FULL

    def bytes_per_token(self, dtype: torch.dtype) -> int:
        return self.heads * (self.key_width + self.value_width) * dtype.itemsize

    def places(self, length: int, step: int, rewind: int = REWIND) -> int:
        """How many tokens of a text of up to `length` a slot must hold at once.

        All of them, or for a layer that looks back over less a ring: what the first token of a step of
        `step` tokens sees, the step, and some more, at most `rewind`. A step of 0 has no bound, and no ring.
        """
        span = self.reach.span
        if span is None or step < 1:
            return length
        return min(length, span + max(step, ROWS) + min(span, rewind))


class KvCache:
    """`keys[layer]` and `values[layer]` are [slots, heads, places[layer], width].

    Token n of a text lies at place n, modulo the number of places. Zeros at first, and not whatever the
    memory held: attention multiplies masked places by 0, and 0 * NaN is NaN.
    """

    def __init__(
        self,
        layers: Items[LayerShape],
        slots: int,
        length: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        step: int = 0,
        rewind: int = REWIND,
    ) -> None:
        self.layers = layers
        self.slots = slots
        self.length = length
        self.places = [layer.places(length, step, rewind) for layer in layers]
        self.keys = [
            torch.zeros(slots, layer.heads, places, layer.key_width, dtype=dtype, device=device)
            for layer, places in zip(layers, self.places, strict=True)
        ]
        self.values = [
            torch.zeros(slots, layer.heads, places, layer.value_width, dtype=dtype, device=device)
            for layer, places in zip(layers, self.places, strict=True)
        ]
        self._slots = [
            [
                (keys[slot : slot + 1].detach(), values[slot : slot + 1].detach())
                for slot in range(slots)
            ]
            for keys, values in zip(self.keys, self.values, strict=True)
        ]
        """By layer and slot, [1, heads, places, width] each. Cutting a view anew costs more."""

    @property
    def rewind(self) -> int:
        """How many tokens before the last one written a slot may be continued from."""
        rings = [
            places - layer.reach.span
            for layer, places in zip(self.layers, self.places, strict=True)
            if layer.reach.span is not None and places < self.length
        ]
        return min(rings, default=self.length)

    def past(
        self, layer: int, slot: int, first: int, end: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [1, heads, end - first, width] of the tokens from `first` to `end`.

        Views, unless the tokens lie across the end of a ring.
        """
        (keys, values), places = self._slots[layer][slot], self.places[layer]
        begin, count = first % places, end - first
        if begin + count <= places:
            return keys.narrow(2, begin, count), values.narrow(2, begin, count)
        rest = begin + count - places
        return (
            torch.cat([keys[:, :, begin:], keys[:, :, :rest]], dim=2),
            torch.cat([values[:, :, begin:], values[:, :, :rest]], dim=2),
        )

    @torch.inference_mode()
    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of one slot into another, of a ring all that it holds."""
        for layer, places in enumerate(self.places):
            count = length if places == self.length else places
            for tensor in (self.keys[layer], self.values[layer]):
                tensor[target, :, :count] = tensor[source, :, :count]

    @torch.inference_mode()
    def scrub(self, slot: int, start: int = 0, end: int | None = None) -> None:
        """Zero a slot from token `start` to `end`, so that NaN left there cannot reach the next sequence."""
        end = self.length if end is None else end
        for layer, places in enumerate(self.places):
            begin, count = start % places, min(end - start, places)
            for tensor in (self.keys[layer], self.values[layer]):
                tensor[slot, :, begin : begin + count].zero_()
                tensor[slot, :, : max(0, begin + count - places)].zero_()


def slots_that_fit(
    layers: Items[LayerShape],
    wanted: int,
    length: int,
    dtype: torch.dtype,
    free_bytes: int,
    device: torch.device,
    reserve: int = 0,
    spare: int = 0,
    step: int = 0,
) -> int:
    """How many slots of `length` tokens fit the memory share, at most `wanted`.

    `reserve` bytes of what is free stay out of it, for what a step needs; `spare` slots are wanted
    besides; `step` is the most tokens of a sequence in a step. Raises `ConfigError` when not even one fits.
    """
    slot_bytes = sum(layer.places(length, step) * layer.bytes_per_token(dtype) for layer in layers)
    share = int(max(0, free_bytes - reserve) * MEMORY_SHARE.get(device.type, 0.5))
    fit = share // max(slot_bytes, 1) - spare
    if fit < 1:
        raise ConfigError(
            f"one sequence of {length} tokens needs {slot_bytes * (1 + spare) >> 20} MiB of cache and"
            f" {share >> 20} MiB may be used; lower limits.max_prompt_tokens or max_new_tokens"
        )
    return min(wanted, fit)
