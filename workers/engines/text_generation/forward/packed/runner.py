"""Runs a plan as one packed forward pass."""

import inspect
from collections.abc import Iterator
from collections.abc import Sequence as Items
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch

from workers.engines import packed_weights
from workers.engines.last_rows import LastRows
from workers.engines.row_blocks import fixed_rows, wants_fixed_rows
from workers.engines.text_generation.adapters import Adapters
from workers.engines.text_generation.chunk import Chunk, Row
from workers.engines.text_generation.forward.packed import attention_layers, few_rows, fusing
from workers.engines.text_generation.forward.packed.attention import SlotAttention, Wanted
from workers.engines.text_generation.forward.packed.kv_cache import KvCache
from workers.engines.text_generation.forward.packed.ladder import Ladder
from workers.engines.text_generation.forward.packed.layout import Layout, lay_out
from workers.engines.text_generation.forward.rope import LengthDependence, MixedRotary
from workers.engines.text_generation.transfer import upload
from workers.engines.texts.sequence import NO_SLOT


class PackedRunner:
    """All chunks side by side in one row, [1, T]: no padding, one pass over the weights a step.

    `adapters`: those that sequences may ask for. What follows the last attention runs for the tokens whose
    logits are wanted, of a prompt for its last one; with `all_rows` it runs for all.
    """

    def __init__(
        self,
        model: Any,
        cache: KvCache,
        device: torch.device,
        lengths: LengthDependence | None = None,
    ) -> None:
        """`lengths`: what positions do to texts that a slot has room for, if they do anything."""
        self.adapters: Adapters | None = None
        self.all_rows = False
        self._model = model
        self._cache = cache
        self._device = device
        self._attention = SlotAttention(cache)
        self._picks_rows = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._before = attention_layers.attach(model, self._attention)
        self.fused = fusing.attach(model, device)
        """Whether some layers run in fewer operations."""
        few_rows.attach(model, device)
        self._half = wants_fixed_rows(device, model.dtype)
        self._all_packed = self._half and packed_weights.attach_half(model, model.dtype)
        self.lengths = lengths
        self._rotary = MixedRotary(model, lengths.window) if lengths else None
        self._ladder: Ladder | None = None

    @property
    def graphs(self) -> int:
        """How many shapes of decode steps are replayed as CUDA graphs."""
        return len(self._ladder) if self._ladder and self._device.type == "cuda" else 0

    @property
    def climbed(self) -> bool:
        """Whether steps of single tokens run in fixed shapes."""
        return self._ladder is not None

    @property
    def rewind(self) -> int:
        """See `KvCache.rewind`."""
        return self._cache.rewind

    def climb(self) -> None:
        """From now on steps of single tokens run in fixed shapes; the cache's last slot is for that.

        Raises what torch raises when a shape cannot be captured.
        """
        ladder = Ladder(
            self._model,
            self._attention,
            self._cache.slots - 1,
            self._cache.length,
            self._device,
            self._rotary,
        )
        ladder.warm_up()
        self._ladder = ladder

    def unfuse(self) -> None:
        """Run all layers as transformers does."""
        fusing.detach(self._model)
        self.fused = False

    def fix_rows(self) -> bool:
        """From now on no bit of a row depends on how many rows a step has, if that can be; whether it can."""
        if self._device.type != "cpu" or self._half:
            return False
        few_rows.detach(self._model)
        if not packed_weights.attach(self._model):
            few_rows.attach(self._model, self._device)
            return False
        if self.adapters is not None:
            self.adapters.fix_rows()
        return True

    def free_rows(self) -> None:
        """Compute rows again in the shape in which they come, as before `fix_rows`."""
        packed_weights.detach(self._model)
        few_rows.attach(self._model, self._device)

    def step_down(self) -> None:
        """Run all steps as they come again."""
        self._ladder = None

    def run(self, chunks: Items[Chunk]) -> tuple[list[Row], torch.Tensor]:
        """See `Runner.run`."""
        for chunk in chunks:
            if chunk.source not in (NO_SLOT, chunk.slot):
                self._cache.copy(chunk.source, chunk.slot, chunk.start)
        packed = sorted(chunks, key=lambda chunk: (chunk.length > 1, chunk.slot))
        adapted = self.adapters is not None and self.adapters.wants(packed)
        decodes = all(c.length == 1 and c.samples for c in packed)
        # A captured step has no adapters in it.
        if self._ladder is not None and decodes and not adapted:
            logits = self._ladder.run(packed)
            return [Row(chunk.sequence, chunk.start) for chunk in packed], logits.float()
        tokens = [token for chunk in packed for token in chunk.tokens]
        ends = accumulate(chunk.length for chunk in packed)
        asked = [
            (part, end - part.length)
            for chunk, end in zip(packed, ends, strict=True)
            if (part := chunk.asked) is not None
        ]
        # Where nothing is wanted, the head is still asked for one row: some models want at least that.
        asked = asked or [(replace(packed[0], length=1, draft=()), 0)]
        asked.sort(key=lambda each: each[0].length > 1)
        places = [at + n for part, at in asked for n in range(part.length)]
        with self._step(packed, [part for part, _ in asked], places, len(tokens)) as (layout, kept):
            wanted = {"logits_to_keep": kept} if self._picks_rows else {}
            output = self._model(
                input_ids=upload([tokens], torch.long, self._device),
                use_cache=False,
                **attention_layers.positions_of(self._model, layout.positions),
                **wanted,
            )
        logits = output.logits[0] if self._picks_rows else output.logits[0, kept]
        rows = [row for part, _ in asked for row in part.rows]
        return rows, logits[: len(rows)].float()

    @contextmanager
    def _step(
        self, packed: Items[Chunk], asked: Items[Chunk], places: Items[int], count: int
    ) -> Iterator[tuple[Layout, torch.Tensor]]:
        """While a step of `count` tokens runs, whose tokens at `places`, the chunks `asked`, are wanted.

        Gives where the tokens belong, and which of the rows behind the last attention are the wanted ones.
        """
        device, adapters = self._device, self.adapters
        layout = lay_out(packed, device, by_place=self._half)
        kept = at = upload(places, torch.long, device)
        with ExitStack() as step:
            step.callback(self._forget_step)
            adapted = adapters is not None and adapters.wants(packed)
            if adapted or not self._all_packed:
                step.enter_context(fixed_rows(device, self._model.dtype))
            if adapters is not None and adapted:
                step.enter_context(adapters.rows(packed))
            if self._rotary is not None:
                self._rotary.mark(packed, device)
            self._attention.layout = layout
            if len(places) < count and not self.all_rows:

                def begin() -> None:
                    step.enter_context(LastRows(at, count))
                    if adapters is not None and adapters.wants(packed):
                        step.enter_context(adapters.rows(asked))

                left = lay_out(asked, device, by_place=self._half)
                self._attention.wanted = Wanted(at, left, begin)
                kept = torch.arange(len(places), device=device)
            yield layout, kept

    def _forget_step(self) -> None:
        self._attention.layout = self._attention.wanted = None
        if self._rotary is not None:
            self._rotary.long = None

    def undo(self, chunks: Items[Chunk]) -> None:
        """See `Runner.undo`. A beginning that was copied is whole, and stays."""
        for chunk in chunks:
            self._cache.scrub(chunk.slot, chunk.start, chunk.end)

    def release(self, slot: int, *, scrub: bool) -> None:
        """See `Runner.release`."""
        if scrub:
            self._cache.scrub(slot)

    def detach(self) -> None:
        """See `Runner.detach`."""
        attention_layers.detach(self._model, self._before)
        packed_weights.detach(self._model)
        fusing.detach(self._model)
        few_rows.detach(self._model)
        if self._rotary is not None:
            self._rotary.detach()
