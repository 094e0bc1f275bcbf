"""Runs a plan as one packed forward pass."""

import inspect
from collections.abc import Sequence as Items
from typing import Any, Protocol

import torch

from workers.engines import packed_attention
from workers.engines.text_generation.attention import SlotAttention, lay_out
from workers.engines.text_generation.kv_cache import KvCache
from workers.engines.text_generation.sequence import Chunk


class Runner(Protocol):
    """Turns a plan into logits. Holds the keys and values, and nothing else of a sequence."""

    def run(self, chunks: Items[Chunk]) -> tuple[list[Chunk], torch.Tensor]:
        """The chunks that sample, and their logits as float32 [chunks that sample, vocabulary].

        May be called again with the same chunks when it has raised.
        """

    def release(self, slot: int, *, scrub: bool) -> None:
        """The sequence in `slot` is gone; `scrub` when it may have left numbers that are none."""


class PackedRunner:
    """All chunks side by side in one row, [1, T]: no padding, one pass over the weights a step."""

    def __init__(self, model: Any, cache: KvCache, device: torch.device) -> None:
        self._model = model
        self._cache = cache
        self._device = device
        self._attention = SlotAttention(cache)
        self._picks_rows = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._before = packed_attention.attach(model, self._attention)

    def run(self, chunks: Items[Chunk]) -> tuple[list[Chunk], torch.Tensor]:
        """See `Runner.run`."""
        row = sorted(chunks, key=lambda chunk: (chunk.length > 1, chunk.slot))
        self._attention.layout = layout = lay_out(row, self._device)
        sampling: list[Chunk] = []
        last: list[int] = []
        tokens: list[int] = []
        for chunk in row:
            tokens += chunk.tokens
            if chunk.samples:
                sampling.append(chunk)
                last.append(len(tokens) - 1)
        rows = torch.tensor(last, dtype=torch.long, device=self._device)
        # Without a row to sample from, the head is still asked for one: some models want at least that.
        wanted = {"logits_to_keep": rows if last else rows.new_zeros(1)} if self._picks_rows else {}
        try:
            output = self._model(
                input_ids=torch.tensor([tokens], device=self._device),
                position_ids=layout.positions[None],
                use_cache=False,
                **wanted,
            )
        finally:
            self._attention.layout = None
        logits = output.logits[0] if self._picks_rows else output.logits[0, rows]
        return sampling, logits[: len(last)].float()

    def release(self, slot: int, *, scrub: bool) -> None:
        """See `Runner.release`."""
        if scrub:
            self._cache.scrub(slot)

    def detach(self) -> None:
        """Give the model its own attention back."""
        packed_attention.detach(self._model, self._before)
