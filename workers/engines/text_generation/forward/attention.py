"""Attention over a packed row of tokens whose past lies in the slots of the key-value cache."""

from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import torch
from torch.nn import functional

from workers.engines.packed_attention import AttentionCall, Unpackable
from workers.engines.row_blocks import ROWS, wants_fixed_rows
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.forward.kv_cache import KvCache, LayerShape
from workers.engines.text_generation.transfer import upload

DENSE = 0.5
"""The share of slots in use from which idle ones are computed along rather than copied around."""


@dataclass(frozen=True, slots=True)
class Window:
    """The slots that the single-token rows attend over: a view where possible, a copy where not.

    `rows` says where each row lies inside, None when they fill it in order. `mask` is
    [slots inside, 1, 1, longest], true where a row may look.
    """

    slots: slice | torch.Tensor
    size: int
    rows: torch.Tensor | None
    longest: int
    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each of a row's T tokens belongs. The first `singles` attend together, the rest in chunks.

    `slots` and `positions` are [T]; `chunks` are (slot, start, length, offset in the row); `masks` are
    kept from one layer to the next, see `_attend_by_place`.
    """

    slots: torch.Tensor
    positions: torch.Tensor
    singles: int
    window: Window | None
    chunks: tuple[tuple[int, int, int, int], ...]
    masks: dict[int, torch.Tensor] = field(default_factory=dict)


def together(device: torch.device) -> bool:
    """Whether single tokens attend in one call, all as far back as the longest text goes.

    A GPU wants few calls. On a CPU a call costs less than reading keys and values that nobody needs.
    """
    return device.type != "cpu"


def lay_out(chunks: Items[Chunk], device: torch.device, *, by_place: bool = False) -> Layout:
    """The layout of a row in which the chunks stand in this order, those of one token first.

    Where single tokens attend one by one those of a draft do, too: each is then computed as it would be in
    a step of its own. `by_place`: it is so however they attend.
    """
    slots: list[int] = []
    positions: list[int] = []
    apart: list[tuple[int, int, int, int]] = []
    shortest = 2 if together(device) else 1
    for chunk in chunks:
        if chunk.draft and shortest == 1 and not by_place:
            apart += [(chunk.slot, chunk.start + n, 1, len(slots) + n) for n in range(chunk.length)]
        elif chunk.length >= shortest:
            apart.append((chunk.slot, chunk.start, chunk.length, len(slots)))
        slots += [chunk.slot] * chunk.length
        positions += range(chunk.start, chunk.end)
    singles = sum(chunk.length < shortest for chunk in chunks)
    return Layout(
        slots=upload(slots, torch.long, device),
        positions=upload(positions, torch.long, device),
        singles=singles,
        window=_window(slots[:singles], positions[:singles], device) if singles else None,
        chunks=tuple(apart),
    )


def _window(slots: list[int], positions: list[int], device: torch.device) -> Window:
    first, last, longest = min(slots), max(slots) + 1, max(positions) + 1
    if len(slots) < DENSE * (last - first):
        mask = look_back(upload(positions, torch.long, device), longest)
        return Window(upload(slots, torch.long, device), len(slots), None, longest, mask)
    # A slot that is not in this step looks at its first place, for a row must look somewhere.
    limits = torch.zeros(last - first, dtype=torch.long, device=device)
    rows = upload(slots, torch.long, device) - first
    limits[rows] = upload(positions, torch.long, device)
    mask = look_back(limits, longest)
    in_order = slots == list(range(first, last))
    return Window(slice(first, last), last - first, None if in_order else rows, longest, mask)


def look_back(positions: torch.Tensor, longest: int) -> torch.Tensor:
    """[rows] positions to a mask [rows, 1, 1, longest], true up to each row's own position."""
    places = torch.arange(longest, device=positions.device)
    return (places <= positions[:, None])[:, None, None]


class SlotAttention:
    """Writes a row's keys and values into their slots, then attends, each sequence to its own past."""

    def __init__(self, cache: KvCache) -> None:
        self._cache = cache
        self.layout: Layout | None = None

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """See `PackedAttention`."""
        layout = self.layout
        if layout is None:
            raise Unpackable("attention was called outside a step")
        _, query, key, value, scale, window = call
        if window is not None and window < self._cache.length:
            raise Unpackable(f"a sliding window of {window} tokens is shorter than a slot")
        layer = layer_of(call.module)
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        keys[layout.slots, :, layout.positions] = key[0].transpose(0, 1)
        values[layout.slots, :, layout.positions] = value[0].transpose(0, 1)
        _, heads, length, _ = query.shape
        out = query.new_empty(length, heads, values.shape[-1])
        if layout.window is not None:
            rows = query[0, :, : layout.singles].transpose(0, 1)
            out[: layout.singles] = _attend_rows(rows, keys, values, layout.window, scale)
        by_place = wants_fixed_rows(query.device, query.dtype)
        for slot, start, size, offset in layout.chunks:
            rows = query[:, :, offset : offset + size]
            if by_place:
                out[offset : offset + size] = _attend_by_place(
                    rows, keys[slot], values[slot], start, scale, layout.masks
                )
                continue
            past = slice(0, start + size)
            chunk = _attend_chunk(rows, keys[slot, :, past], values[slot, :, past], start, scale)
            out[offset : offset + size] = chunk
        return out[None]


def _attend_rows(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    window: Window,
    scale: float | None,
) -> torch.Tensor:
    """One token of each sequence: [n, heads, d] to [n, heads, d].

    Query heads that share a key head stand where the query's length usually does, so that no key is
    copied for them.
    """
    rows, heads, width = query.shape
    shared = keys.shape[1]
    query = query.reshape(rows, shared, heads // shared, width)
    if window.rows is not None:
        spread = query.new_zeros(window.size, *query.shape[1:])
        spread[window.rows] = query
        query = spread
    past = slice(0, window.longest)
    out = functional.scaled_dot_product_attention(
        query,
        keys[:, :, past][window.slots],
        values[:, :, past][window.slots],
        attn_mask=window.mask,
        scale=scale,
    )
    if window.rows is not None:
        out = out[window.rows]
    return out.reshape(rows, heads, -1)


def _attend_chunk(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    start: int,
    scale: float | None,
) -> torch.Tensor:
    """The tokens of one sequence: [1, heads, n, d] over [kv heads, start + n, d] to [n, heads, d]."""
    _, heads, size, width = query.shape
    shared, total, _ = keys.shape
    if size == 1:
        # As in `_attend_rows`; the last token of a text sees all of it.
        query = query.reshape(1, shared, heads // shared, width)
        out = functional.scaled_dot_product_attention(query, keys[None], values[None], scale=scale)
        return out.reshape(1, heads, -1)
    mask = None
    if start:
        places = torch.arange(total, device=query.device)
        mask = places <= places[start:, None]
    out = functional.scaled_dot_product_attention(
        query,
        keys[None],
        values[None],
        attn_mask=mask,
        is_causal=start == 0,
        scale=scale,
        enable_gqa=heads != shared,
    )
    return out[0].transpose(0, 1)


def _attend_by_place(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    start: int,
    scale: float | None,
    masks: dict[int, torch.Tensor],
) -> torch.Tensor:
    """[1, heads, n, d] over a slot's [kv heads, length, d] to [n, heads, d], rows in fixed shapes.

    A token is always computed in the same row of a block of `ROWS` over the same number of keys, so it
    does not matter how a text was cut into steps, see `row_blocks`. `masks` keeps what was made for a
    layer before, by where a block begins.
    """
    _, heads, size, width = query.shape
    shared, length, _ = keys.shape
    group = heads // shared
    before = start % ROWS
    filled = functional.pad(query[0], (0, 0, before, -(before + size) % ROWS))
    blocks = filled.reshape(shared, group, -1, ROWS, width).unbind(2)
    found: list[torch.Tensor] = []
    for first, block in zip(range(start - before, start + size, ROWS), blocks, strict=True):
        end = min(first + ROWS, length)
        if first not in masks:
            places = torch.arange(first + ROWS, device=query.device)
            hidden = places[:end] > places[first:, None]
            masks[first] = query.new_zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
        out = functional.scaled_dot_product_attention(
            block,
            keys[:, None, :end].expand(-1, group, -1, -1),
            values[:, None, :end].expand(-1, group, -1, -1),
            attn_mask=masks[first],
            scale=scale,
        )
        found.append(out.reshape(heads, ROWS, -1).transpose(0, 1))
    return torch.cat(found)[before : before + size]


class ShapeProbe:
    """Learns the shape of every layer's keys and values from one forward pass, whatever the config says."""

    def __init__(self) -> None:
        self._seen: dict[int, LayerShape] = {}

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Zeros of the right shape; see `PackedAttention`."""
        query, key, value = call.query, call.key, call.value
        layer = layer_of(call.module)
        if layer in self._seen:
            raise Unpackable(f"two attention layers call themselves number {layer}")
        self._seen[layer] = LayerShape(key.shape[1], key.shape[3], value.shape[3])
        return query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3])

    def layers(self, expected: int) -> list[LayerShape]:
        """The shapes in order. Raises `Unpackable` unless each of `expected` layers was seen."""
        if sorted(self._seen) != list(range(expected)):
            raise Unpackable(f"{len(self._seen)} of its {expected} layers have packable attention")
        return [self._seen[layer] for layer in range(expected)]


def layer_of(module: torch.nn.Module) -> int:
    layer = getattr(module, "layer_idx", None)
    if not isinstance(layer, int):
        raise Unpackable(f"{type(module).__name__} does not say which layer it is")
    return layer
