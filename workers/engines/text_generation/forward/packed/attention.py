"""Attention over a packed row of tokens whose past lies in the slots of the key-value cache."""

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import groupby

import torch
from torch.nn import functional

from workers.engines.packed_attention import AttentionCall, Unpackable
from workers.engines.row_blocks import ROWS, wants_fixed_rows
from workers.engines.text_generation.forward.packed.kv_cache import KvCache, LayerShape
from workers.engines.text_generation.forward.packed.layout import Layout
from workers.engines.text_generation.forward.packed.reach import Reach, reach_of
from workers.engines.text_generation.forward.packed.scores import attend_bent, bends


@dataclass(frozen=True, slots=True)
class Wanted:
    """Those of a step's T tokens whose logits are wanted: `rows` [n], and where they belong.

    `begin` is called once the last layer has attended for them: from then on there are n rows.
    """

    rows: torch.Tensor
    layout: Layout
    begin: Callable[[], object]


class SlotAttention:
    """Writes a row's keys and values into their slots, then attends, each sequence to its own past.

    With `wanted` the last layer attends for those tokens alone.
    """

    def __init__(self, cache: KvCache) -> None:
        self._cache = cache
        self.layout: Layout | None = None
        self.wanted: Wanted | None = None

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """See `PackedAttention`."""
        layout = self.layout
        if layout is None:
            raise Unpackable("attention was called outside a step")
        if call.mask is not None:
            raise Unpackable("it builds an attention mask of its own")
        query, layer = call.query, layer_of(call.module)
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        places = layout.places(self._cache.places[layer], self._cache.length)
        keys[layout.slots, :, places] = call.key[0].transpose(0, 1)
        values[layout.slots, :, places] = call.value[0].transpose(0, 1)
        if self.wanted is None or layer != len(self._cache.layers) - 1:
            return self._attend(layer, layout, call)
        asked = call._replace(query=query.index_select(2, self.wanted.rows))
        out = self._attend(layer, self.wanted.layout, asked)
        self.wanted.begin()
        return out

    def _attend(self, layer: int, layout: Layout, call: AttentionCall) -> torch.Tensor:
        """The tokens of a layout, whose keys and values are in their slots, to [1, n, heads, d]."""
        query = call.query
        found: list[torch.Tensor] = []
        if layout.window is not None:
            found.append(self._attend_rows(layer, layout, call))
        by_place = wants_fixed_rows(query.device, query.dtype)
        attend = self._attend_by_place if by_place else self._attend_chunk
        plain = not (by_place or bends(call))
        for lone, chunks in groupby(layout.chunks, lambda chunk: plain and chunk[2] == 1):
            if lone:
                found.append(self._attend_lone(layer, call, list(chunks)))
                continue
            for slot, start, size, offset in chunks:
                rows = query[0, :, offset : offset + size]
                found.append(attend(layer, layout, call, rows, slot, start))
        return (found[0] if len(found) == 1 else torch.cat(found))[None]

    def _attend_rows(self, layer: int, layout: Layout, call: AttentionCall) -> torch.Tensor:
        """One token of each sequence in the window, to [n, heads, d].

        Query heads that share a key head stand where the query's length usually does, so that no key is
        copied for them.
        """
        window = layout.window
        assert window is not None
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        query = call.query[0, :, : layout.singles].transpose(0, 1)
        rows, heads, width = query.shape
        shared, size = keys.shape[1], keys.shape[2]
        query = query.reshape(rows, shared, heads // shared, width)
        if window.rows is not None:
            spread = query.new_zeros(window.size, *query.shape[1:])
            spread[window.rows] = query
            query = spread
        past = slice(0, min(window.longest, size))
        keys, values = keys[:, :, past][window.slots], values[:, :, past][window.slots]
        mask = layout.look_back(self._cache.layers[layer].reach, size)
        if bends(call):
            out = attend_bent(query[..., None, :], keys, values, mask[:, None], call)[..., 0, :]
        else:
            out = functional.scaled_dot_product_attention(
                query, keys, values, attn_mask=mask, scale=call.scale
            )
        if window.rows is not None:
            out = out[window.rows]
        return out.reshape(rows, heads, -1)

    def _attend_lone(
        self, layer: int, call: AttentionCall, chunks: Items[tuple[int, int, int, int]]
    ) -> torch.Tensor:
        """Single tokens side by side in the row, each in a call of its own, to [n, heads, d].

        Shapes are those of `_attend_rows`. There are many such calls, and each does little: so what can be
        done for all of them at once is.
        """
        heads, width = call.query.shape[1], call.query.shape[3]
        shared, reach = self._cache.layers[layer].heads, self._cache.layers[layer].reach
        first = chunks[0][3]
        rows = call.query[0, :, first : first + len(chunks)].transpose(0, 1)
        rows = rows.reshape(len(chunks), shared, heads // shared, width)
        found = []
        for row, (slot, position, _, _) in zip(torch.split(rows, 1), chunks, strict=True):
            past = self._cache.past(layer, slot, reach.first(position), position + 1)
            found.append(functional.scaled_dot_product_attention(row, *past, scale=call.scale))
        return torch.cat(found).reshape(len(chunks), heads, -1)

    def _attend_chunk(
        self,
        layer: int,
        layout: Layout,
        call: AttentionCall,
        query: torch.Tensor,
        slot: int,
        start: int,
    ) -> torch.Tensor:
        """The tokens of one sequence from `start` on: [heads, n, d] to [n, heads, d]."""
        heads, size, width = query.shape
        reach, end = self._cache.layers[layer].reach, start + size
        low = reach.first(start)
        keys, values = self._cache.past(layer, slot, low, end)
        shared = keys.shape[1]
        bent = bends(call)
        # The last token of a text sees all that is left of it.
        causal = size > 1 and low == start and reach.whole(start, end)
        mask = None
        if size > 1 and (bent or not causal):
            mask = layout.between(reach, range(start, end), range(low, end), query)
        if bent:
            grouped = query.reshape(shared, heads // shared, size, width)
            out = attend_bent(grouped, keys[0], values[0], mask, call, low)
            return out.reshape(heads, size, -1).transpose(0, 1)
        out = functional.scaled_dot_product_attention(
            query[None],
            keys,
            values,
            attn_mask=mask,
            is_causal=mask is None,
            scale=call.scale,
            enable_gqa=heads != shared,
        )
        return out[0].transpose(0, 1)

    def _attend_by_place(
        self,
        layer: int,
        layout: Layout,
        call: AttentionCall,
        query: torch.Tensor,
        slot: int,
        start: int,
    ) -> torch.Tensor:
        """`_attend_chunk` in fixed shapes.

        A token is always computed in the same row of a block of `ROWS` over the same number of keys, so it
        does not matter how a text was cut into steps, see `row_blocks`.
        """
        heads, size, width = query.shape
        shared = self._cache.layers[layer].heads
        group = heads // shared
        before = start % ROWS
        if size == 1:
            block = query.new_zeros(shared, group, ROWS, width)
            block[:, :, before] = query.reshape(shared, group, width)
            return self._attend_block(layer, layout, call, block, slot, start - before)[
                None, :, before
            ]
        filled = functional.pad(query, (0, 0, before, -(before + size) % ROWS))
        blocks = filled.reshape(shared, group, -1, ROWS, width).unbind(2)
        found: list[torch.Tensor] = []
        for first, block in zip(range(start - before, start + size, ROWS), blocks, strict=True):
            out = self._attend_block(layer, layout, call, block, slot, first)
            found.append(out.transpose(0, 1))
        return torch.cat(found)[before : before + size]

    def _attend_block(
        self,
        layer: int,
        layout: Layout,
        call: AttentionCall,
        block: torch.Tensor,
        slot: int,
        first: int,
    ) -> torch.Tensor:
        """[kv heads, group, ROWS, d] of the tokens from `first` on, of which some are not there.

        To [heads, ROWS, d].
        """
        reach, cache = self._cache.layers[layer].reach, self._cache
        low, end = reach.first(first), min(first + ROWS, cache.length)
        keys, values = cache.past(layer, slot, low, end)
        shared, group, _, width = block.shape
        asked, seen = range(first, first + ROWS), range(low, end)
        if bends(call):
            mask = layout.between(reach, asked, seen, block)
            out = attend_bent(block, keys[0], values[0], mask, call, low)
        else:
            # Query heads that share a key head stand one below the other, so that no key is copied for them.
            mask = layout.between(reach, asked, seen, block, group)
            out = functional.scaled_dot_product_attention(
                block.reshape(1, shared, group * ROWS, width),
                keys,
                values,
                attn_mask=mask,
                scale=call.scale,
            )
        return out.reshape(shared * group, ROWS, -1)


class ShapeProbe:
    """Learns from one forward pass what every layer keeps, and how far back it looks in texts of `length`."""

    def __init__(self, length: int = 0) -> None:
        self._length = length
        self._seen: dict[int, LayerShape] = {}

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """Zeros of the right shape; see `PackedAttention`."""
        query, key, value = call.query, call.key, call.value
        layer = layer_of(call.module)
        if layer in self._seen:
            raise Unpackable(f"two attention layers call themselves number {layer}")
        reach = reach_of(call, self._length) if self._length else Reach()
        if call.bias is not None and reach.span is not None:
            raise Unpackable("its scores depend on positions, and it does not see all of a text")
        self._seen[layer] = LayerShape(key.shape[1], key.shape[3], value.shape[3], reach)
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
