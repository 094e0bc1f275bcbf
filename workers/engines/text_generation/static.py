"""Runs a plan one sequence at a time, with transformers' own cache: slower, right for any architecture."""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from workers.engines.text_generation.sequence import Chunk, Row, Sequence


@dataclass(slots=True)
class Past:
    """What one sequence has been through: `length` of its tokens lie in `cache`."""

    sequence: Sequence
    cache: Any
    length: int


class StaticRunner:
    """The fallback for models that cannot be packed. Sequences take turns within a step.

    A cache of transformers cannot always be cut back after a step that failed, so one that does not
    stand where the plan wants it is built anew from the sequence's tokens. With `cached` false every
    token reads its whole text again.
    """

    def __init__(self, model: Any, device: torch.device, *, cached: bool = True) -> None:
        self._model = model
        self._device = device
        self._cached = cached
        self._pasts: dict[int, Past] = {}

    def run(self, chunks: Items[Chunk]) -> tuple[list[Row], torch.Tensor]:
        """See `Runner.run`. A prompt is run whole, when its last chunk is due."""
        rows: list[Row] = []
        logits: list[torch.Tensor] = []
        for chunk in chunks:
            if chunk.samples:
                wanted = range(chunk.sequence.wanted, chunk.end)
                rows += [Row(chunk.sequence, position) for position in wanted]
                logits.append(self._last_logits(chunk, len(wanted)))
        return rows, torch.cat(logits) if logits else torch.empty(0, 0)

    def undo(self, chunks: Items[Chunk]) -> None:
        """See `Runner.undo`. A cache that stands where no plan wants it is never used."""

    def release(self, slot: int, *, scrub: bool) -> None:  # noqa: ARG002
        """See `Runner.release`."""
        self._pasts.pop(slot, None)

    def _last_logits(self, chunk: Chunk, count: int) -> torch.Tensor:
        """float32 [count, vocabulary]"""
        if not self._cached:
            return self._forward(chunk.sequence.tokens[: chunk.end], count, use_cache=False)
        past = self._pasts.pop(chunk.slot, None)
        if past is None or past.sequence is not chunk.sequence or past.length != chunk.start:
            past = Past(chunk.sequence, DynamicCache(config=self._model.config), 0)
        tokens = chunk.sequence.tokens[past.length : chunk.end]
        logits = self._forward(tokens, count, past_key_values=past.cache, use_cache=True)
        # Only now, so that a forward pass that raised leaves no half-filled cache behind.
        past.length = chunk.end
        self._pasts[chunk.slot] = past
        return logits

    def _forward(self, tokens: list[int], count: int, **options: Any) -> torch.Tensor:
        output = self._model(input_ids=torch.tensor([tokens], device=self._device), **options)
        logits: torch.Tensor = output.logits[0, -count:].float()
        return logits
