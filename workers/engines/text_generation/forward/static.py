"""Runs a plan one sequence at a time, as transformers' `generate` does: slower, for any architecture."""

import inspect
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache

from workers.engines.text_generation.chunk import Chunk, Row
from workers.engines.text_generation.forward.rope import LengthDependence, forget_lengths
from workers.engines.texts.sequence import Sequence


@dataclass(slots=True)
class Past:
    """What one sequence has been through: `length` of its tokens are known to `state`.

    `state` is what transformers hands from one step of `generate` to the next: a cache under the name that
    the architecture has for it, and the mask.
    """

    sequence: Sequence
    state: dict[str, Any]
    length: int = 0


@dataclass
class StaticRunner:
    """The fallback for models that cannot be packed. Sequences take turns within a step.

    A cache of transformers cannot always be cut back after a step that failed, so one that does not
    stand where the plan wants it is built anew from the sequence's tokens. With `cached` false every
    token reads its whole text again. `lengths`: positions depend on the text's length, and a text that is
    built anew is read in the pieces that it was made in.
    """

    model: Any
    device: torch.device
    cached: bool = True
    lengths: LengthDependence | None = None
    _pasts: dict[int, Past] = field(default_factory=dict)

    def run(self, chunks: Items[Chunk]) -> tuple[list[Row], torch.Tensor]:
        """See `Runner.run`. A prompt is run whole, when its last chunk is due."""
        rows: list[Row] = []
        logits: list[torch.Tensor] = []
        for chunk in chunks:
            if chunk.samples:
                wanted = range(chunk.sequence.wanted, chunk.end)
                rows += [Row(chunk.sequence, position) for position in wanted]
                logits.append(self._last_logits(chunk, len(wanted)))
            elif self._in_pieces(chunk):
                self._last_logits(chunk, 1)
        return rows, torch.cat(logits) if logits else torch.empty(0, 0)

    def undo(self, chunks: Items[Chunk]) -> None:
        """See `Runner.undo`. A cache that stands where no plan wants it is never used."""

    def release(self, slot: int, *, scrub: bool) -> None:  # noqa: ARG002
        """See `Runner.release`."""
        self._pasts.pop(slot, None)

    def _in_pieces(self, chunk: Chunk) -> bool:
        """An earlier attempt's text that has to be read token by token; some of it in every step."""
        lengths = self.lengths
        return (
            self.cached
            and lengths is not None
            and not lengths.restarts
            and chunk.end > max(chunk.sequence.prompt_length, lengths.window)
        )

    def _last_logits(self, chunk: Chunk, count: int) -> torch.Tensor:
        """float32 [count, vocabulary]"""
        if not self.cached:
            return self._plain(chunk.sequence.tokens[: chunk.end], count)
        past = self._pasts.pop(chunk.slot, None)
        if past is None or past.sequence is not chunk.sequence or past.length >= chunk.end:
            past = self._begin(chunk.sequence)
        logits: list[torch.Tensor] = []
        for end in self._ends(past, chunk, count):
            logits.append(self._read(past, end, min(count, end - past.length)))
        # Only now, so that a forward pass that raised leaves no half-filled cache behind.
        self._pasts[chunk.slot] = past
        return torch.cat(logits)[-count:]

    def _ends(self, past: Past, chunk: Chunk, count: int) -> list[int]:
        """Where each forward pass ends: one for all that is new, unless positions depend on the length."""
        lengths, end = self.lengths, chunk.end
        if lengths is None or end <= lengths.window:
            return [end]
        if lengths.restarts:
            # Logits of tokens that lie within the window are those of the text before it crossed.
            within = past.length < lengths.window and end - count < lengths.window
            return [lengths.window, end] if within else [end]
        whole = max(chunk.sequence.prompt_length, lengths.window)
        return list(range(min(max(whole, past.length + 1), end), end + 1))

    def _begin(self, sequence: Sequence) -> Past:
        state: dict[str, Any] = {"use_cache": True}
        if self.model._supports_default_dynamic_cache():
            state["cache_params" if _is_mamba(self.model) else "past_key_values"] = DynamicCache(
                config=self.model.config.get_text_config(decoder=True)
            )
        return Past(sequence, state)

    def _read(self, past: Past, end: int, count: int) -> torch.Tensor:
        """Read up to `end` what `past` does not know yet; float32 [count, vocabulary] of the last tokens."""
        lengths = self.lengths
        if lengths is not None:
            if lengths.restarts and past.length <= lengths.window < end:
                past.state, past.length = self._begin(past.sequence).state, 0
            if lengths.moving:
                forget_lengths(self.model)
        new = end - past.length
        ids = torch.tensor([past.sequence.tokens[:end]], device=self.device)
        inputs = self.model.prepare_inputs_for_generation(
            ids,
            next_sequence_length=new if past.length else None,
            is_first_iteration=not past.length,
            attention_mask=torch.ones_like(ids),
            **past.state,
        )
        output = self.model(**{**inputs, **self._keep(count)}, return_dict=True)
        state = self.model._update_model_kwargs_for_generation(output, past.state)
        past.state = {name: value for name, value in state.items() if name != "attention_mask"}
        past.length = end
        logits: torch.Tensor = output.logits[0, -count:].float()
        return logits

    def _plain(self, tokens: list[int], count: int) -> torch.Tensor:
        if self.lengths is not None and self.lengths.moving:
            forget_lengths(self.model)
        ids = torch.tensor([tokens], device=self.device)
        output = self.model(input_ids=ids, use_cache=False, **self._keep(count))
        logits: torch.Tensor = output.logits[0, -count:].float()
        return logits

    def _keep(self, count: int) -> dict[str, int]:
        """Logits are as wide as the vocabulary: those of a long prompt are not made."""
        picks = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        return {"logits_to_keep": count} if picks else {}


def _is_mamba(model: Any) -> bool:
    """As `generate` tells them, whose caches have another name."""
    return "mamba" in type(model).__name__.lower()
