"""Runs a plan as one packed forward pass."""

import inspect
from collections.abc import Sequence as Items
from contextlib import nullcontext
from typing import Any

import torch

from workers.engines.row_blocks import fixed_rows, wants_fixed_rows
from workers.engines.text_generation.adapters import Adapters
from workers.engines.text_generation.chunk import Chunk, Row
from workers.engines.text_generation.forward.packed import attention_layers, exact_rows, few_rows
from workers.engines.text_generation.forward.packed.attention import SlotAttention
from workers.engines.text_generation.forward.packed.kv_cache import KvCache
from workers.engines.text_generation.forward.packed.ladder import Ladder
from workers.engines.text_generation.forward.packed.layout import lay_out
from workers.engines.text_generation.forward.rope import LengthDependence, MixedRotary
from workers.engines.text_generation.transfer import upload
from workers.engines.texts.sequence import NO_SLOT


class PackedRunner:
    """All chunks side by side in one row, [1, T]: no padding, one pass over the weights a step.

    `adapters`: those that sequences may ask for.
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
        self._model = model
        self._cache = cache
        self._device = device
        self._attention = SlotAttention(cache)
        self._picks_rows = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._before = attention_layers.attach(model, self._attention)
        few_rows.attach(model, device)
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

    def fix_rows(self) -> bool:
        """From now on no bit of a row depends on how many rows a step has, if that can be; whether it can."""
        if self._device.type != "cpu" or wants_fixed_rows(self._device, self._model.dtype):
            return False
        few_rows.detach(self._model)
        if not exact_rows.attach(self._model):
            few_rows.attach(self._model, self._device)
            return False
        if self.adapters is not None:
            self.adapters.fix_rows()
        return True

    def free_rows(self) -> None:
        """Compute rows again in the shape in which they come, as before `fix_rows`."""
        exact_rows.detach(self._model)
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
        by_place = wants_fixed_rows(self._device, self._model.dtype)
        self._attention.layout = layout = lay_out(packed, self._device, by_place=by_place)
        rows: list[Row] = []
        places: list[int] = []
        tokens: list[int] = []
        for chunk in packed:
            for row in chunk.rows:
                rows.append(row)
                places.append(len(tokens) + row.position - chunk.start)
            tokens += chunk.tokens
        # Where nothing is wanted, the head is still asked for one row: some models want at least that.
        at = upload(places or [0], torch.long, self._device)
        wanted = {"logits_to_keep": at} if self._picks_rows else {}
        if self._rotary is not None:
            self._rotary.mark(packed, self._device)
        try:
            with (
                fixed_rows(self._device, self._model.dtype),
                self.adapters.rows(packed) if adapted and self.adapters else nullcontext(),
            ):
                output = self._model(
                    input_ids=upload([tokens], torch.long, self._device),
                    use_cache=False,
                    **attention_layers.positions_of(self._model, layout.positions),
                    **wanted,
                )
        finally:
            self._attention.layout = None
            if self._rotary is not None:
                self._rotary.long = None
        logits = output.logits[0] if self._picks_rows else output.logits[0, at]
        return rows, logits[: len(rows)].float()

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
        exact_rows.detach(self._model)
        few_rows.detach(self._model)
        if self._rotary is not None:
            self._rotary.detach()
