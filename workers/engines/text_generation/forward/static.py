"""Runs a plan one sequence at a time, as transformers' `generate` does: slower, for any architecture."""

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any

import torch

from workers.engines.text_generation.chunk import Chunk, Row
from workers.engines.text_generation.forward.reading import empty_state, kept, read
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
    """The fallback for models that neither pack nor stack. Sequences take turns within a step.

    A prompt is read whole, then token by token, in a later attempt too: a token may depend on how the
    text before it was read. A cache of transformers cannot always be cut back after a step that failed, so
    one that does not stand where the plan wants it is built anew. With `cached` false every token reads
    its whole text again. `lengths`: positions depend on the text's length.
    """

    model: Any
    device: torch.device
    cached: bool = True
    lengths: LengthDependence | None = None
    _pasts: dict[int, Past] = field(default_factory=dict)

    def run(self, chunks: Items[Chunk]) -> tuple[list[Row], torch.Tensor]:
        """See `Runner.run`. A prompt is run when its last chunk is due."""
        rows: list[Row] = []
        logits: list[torch.Tensor] = []
        for chunk in chunks:
            wanted = list(chunk.rows)
            rows += wanted
            if not self.cached:
                logits += [self._plain(chunk.sequence.tokens[: chunk.end], len(wanted))] * bool(
                    wanted
                )
            elif chunk.end >= chunk.sequence.prompt_length:
                found = self._last_logits(chunk)
                logits += [found[row.position] for row in wanted]
        return rows, torch.cat(logits) if logits else torch.empty(0, 0)

    def undo(self, chunks: Items[Chunk]) -> None:
        """See `Runner.undo`. A cache that stands where no plan wants it is never used."""

    def release(self, slot: int, *, scrub: bool) -> None:  # noqa: ARG002
        """See `Runner.release`."""
        self._pasts.pop(slot, None)

    def detach(self) -> None:
        """See `Runner.detach`."""

    def _last_logits(self, chunk: Chunk) -> dict[int, torch.Tensor]:
        """float32 [1, vocabulary] by position, for every forward pass up to the chunk's end."""
        past = self._pasts.pop(chunk.slot, None)
        if past is None or past.sequence is not chunk.sequence or past.length >= chunk.end:
            past = self._begin(chunk.sequence)
        first = max(chunk.sequence.prompt_length, past.length + 1)
        found = {end - 1: self._read(past, end) for end in range(first, chunk.end + 1)}
        # Only now, so that a forward pass that raised leaves no half-filled cache behind.
        self._pasts[chunk.slot] = past
        return found

    def _begin(self, sequence: Sequence) -> Past:
        return Past(sequence, empty_state(self.model))

    def _read(self, past: Past, end: int) -> torch.Tensor:
        """Read up to `end` what `past` does not know yet; float32 [1, vocabulary] of the last token."""
        lengths = self.lengths
        if lengths is not None:
            if lengths.restarts and past.length <= lengths.window < end:
                past.state, past.length = empty_state(self.model), 0
            if lengths.moving:
                self._forget_lengths()
        ids = torch.tensor([past.sequence.tokens[:end]], device=self.device)
        logits, past.state = read(self.model, past.state, ids, past.length, 1)
        past.length = end
        return logits[0]

    def _forget_lengths(self) -> None:
        for module in self.model.modules():
            forget_lengths(module)

    def _plain(self, tokens: list[int], count: int) -> torch.Tensor:
        if self.lengths is not None and self.lengths.moving:
            self._forget_lengths()
        ids = torch.tensor([tokens], device=self.device)
        output = self.model(input_ids=ids, use_cache=False, **kept(self.model, count))
        logits: torch.Tensor = output.logits[0, -count:].float()
        return logits
