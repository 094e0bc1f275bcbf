"""Masks of the tokens that may come next: made beside the forward pass, applied to its logits.

A mask is int32 words, token t being bit t % 32 of word t // 32, as llguidance writes them.
"""

from collections.abc import Sequence as Items
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from workers.engines.text_generation.chunk import Chunk, Row
from workers.engines.text_generation.grammar.matchers import Matcher


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which tokens some rows of logits may choose. `masks`: int32 [masks, words], on the host; `places`:
    which of them belongs to a row.
    """

    masks: torch.Tensor
    places: dict[int, int]

    def additions(self, rows: Items[int], like: torch.Tensor) -> torch.Tensor:
        """float32 [len(rows), vocabulary of `like`], on its device, to be added to these rows of logits:
        minus infinity for a token that may not be chosen, else 0. A row without a mask may choose any.
        """
        words = torch.full((len(rows), self.masks.shape[1]), -1, dtype=torch.int32)
        for number, row in enumerate(rows):
            if (place := self.places.get(row)) is not None:
                words[number] = self.masks[place]
        return unpacked(words.to(like.device, non_blocking=True), like.shape[-1])

    def among(self, rows: Items[int]) -> bool:
        """Whether any of these rows has a mask."""
        return any(row in self.places for row in rows)


def unpacked(words: torch.Tensor, width: int) -> torch.Tensor:
    """int32 [rows, words] as float32 [rows, width], on their device: 0 for a bit that is set, minus infinity
    for one that is not, or that is not there.

    One gather from a table of all bytes: no compiler, no kernel of anybody else's. On a CPU adding is
    faster than filling by a mask.
    """
    table = _table(words.device)
    spread = table.index_select(0, words.view(torch.uint8).view(-1).int()).view(len(words), -1)
    missing = width - spread.shape[1]
    if missing > 0:
        spread = torch.nn.functional.pad(spread, (0, missing), value=-torch.inf)
    return spread[:, :width]


@cache
def _table(device: torch.device) -> torch.Tensor:
    """float32 [256, 8]: what each byte of a mask adds to its eight tokens."""
    bits = torch.arange(256)[:, None] >> torch.arange(8) & 1
    return torch.where(bits.bool(), 0.0, -torch.inf).to(device)


class Masks:
    """Makes the masks of a step on a thread of its own, while another one runs the model."""

    def __init__(self, words: int) -> None:
        self._words = words
        self._thread: ThreadPoolExecutor | None = None

    def begin(self, chunks: Items[Chunk]) -> "Pending | None":
        """Begin with the masks of a step with these chunks; None where no text in it has a grammar."""
        asking = [
            (chunk.sequence.id, matcher)
            for chunk in chunks
            if chunk.samples and (matcher := chunk.sequence.matcher) is not None
        ]
        if not asking:
            return None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="masks")
        matchers = [matcher for _, matcher in asking]
        return Pending([name for name, _ in asking], self._thread.submit(self._make, matchers))

    def _make(self, matchers: list[Matcher]) -> torch.Tensor:
        masks = np.zeros((len(matchers), self._words), dtype=np.int32)
        for mask, matcher in zip(masks, matchers, strict=True):
            matcher.write_mask(mask)
        return torch.from_numpy(masks)


@dataclass(frozen=True, slots=True)
class Pending:
    """Masks that are being made, in the order of `names`, which are those of their sequences."""

    names: list[str]
    made: "Future[torch.Tensor]"

    def join(self, rows: Items[Row]) -> Allowed:
        """Wait for them. `rows` are those of the logits; the last of a text chooses its next token."""
        masks = self.made.result()
        index = {name: place for place, name in enumerate(self.names)}
        return Allowed(
            masks,
            {
                number: index[row.sequence.id]
                for number, row in enumerate(rows)
                if row.sequence.id in index and row.position + 1 == len(row.sequence.tokens)
            },
        )

    def abandon(self) -> None:
        """Wait for them, whatever they are: their matchers are free then."""
        self.made.exception()
