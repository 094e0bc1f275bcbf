"""Masks of the tokens that may come next: made beside the forward pass, applied to its logits.

A mask is int32 words, token t being bit t % 32 of word t // 32, as llguidance writes them.
"""

import os
from collections.abc import Iterable
from collections.abc import Sequence as Items
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from workers.engines.text_generation.chunk import Chunk, Row
from workers.engines.text_generation.grammar.matchers import Matcher
from workers.engines.text_generation.transfer import upload

MOST_THREADS = 8


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which tokens some rows of logits may choose. `masks`: int32 [masks, words], on the host; `places`:
    which of them belongs to a row.
    """

    masks: torch.Tensor
    places: dict[int, int]

    def kept(self, rows: Items[int], like: torch.Tensor) -> "Kept | None":
        """What those of these rows may choose that have a mask, on the device of `like`, whose last dimension
        is the vocabulary; None where none has one.
        """
        held = [number for number, row in enumerate(rows) if row in self.places]
        if not held:
            return None
        words = self.masks[[self.places[rows[number]] for number in held]]
        spread = unpacked(words.to(like.device, non_blocking=True), like.shape[-1])
        return Kept(upload(held, torch.long, like.device), spread)


@dataclass(frozen=True, slots=True)
class Kept:
    """`rows`: int64 [held], which rows of scores may not choose every token; `additions`: float32 [held,
    vocabulary], minus infinity for a token that may not be chosen, else 0.
    """

    rows: torch.Tensor
    additions: torch.Tensor

    def apply(self, scores: torch.Tensor) -> torch.Tensor:
        """Forbid tokens in `scores`, [rows, vocabulary]. Returns bool [held], whether nothing is left; such a
        row becomes 0 throughout. Rows that may choose any token are not touched.
        """
        held = scores[self.rows] + self.additions
        dead = held.amax(dim=-1) == -torch.inf
        scores[self.rows] = held.masked_fill_(dead[:, None], 0.0)
        return dead


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
    """Makes the masks of a step on threads of its own, while another one runs the model.

    `words` is how long a mask is; `threads`, how many make masks at once: what computes them lets others run.
    """

    def __init__(self, words: int, threads: int = 1) -> None:
        self._words = words
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, chunks: Items[Chunk]) -> "Pending | None":
        """Begin with the masks of a step with these chunks; None where no text in it has a grammar."""
        asking = [
            (chunk.sequence.id, matcher)
            for chunk in chunks
            if chunk.samples and (matcher := chunk.sequence.matcher) is not None
        ]
        if not asking:
            return None
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="masks")
        masks = np.zeros((len(asking), self._words), dtype=np.int32)
        shares = [range(n, len(asking), self._threads) for n in range(self._threads)]
        made = [self._pool.submit(_make, masks, asking, share) for share in shares if share]
        return Pending([name for name, _ in asking], masks, made)


def _make(masks: Any, asking: Items[tuple[str, Matcher]], share: Iterable[int]) -> None:
    for number in share:
        asking[number][1].write_mask(masks[number])


def spare_threads(device: torch.device) -> int:
    """How many threads may make masks while the model runs on a device."""
    running = torch.get_num_threads() if device.type == "cpu" else 1
    return min(MOST_THREADS, max(1, len(os.sched_getaffinity(0)) - running))


@dataclass(frozen=True, slots=True)
class Pending:
    """Masks that are being `made`, int32 [names, words], in the order of `names`, their sequences'."""

    names: list[str]
    masks: Any
    made: "list[Future[None]]"

    def join(self, rows: Items[Row]) -> Allowed:
        """Wait for them. `rows` are those of the logits; the last of a text chooses its next token."""
        for future in self.made:
            future.result()
        index = {name: place for place, name in enumerate(self.names)}
        return Allowed(
            torch.from_numpy(self.masks),
            {
                number: index[row.sequence.id]
                for number, row in enumerate(rows)
                if row.sequence.id in index and row.position + 1 == len(row.sequence.tokens)
            },
        )

    def abandon(self) -> None:
        """Wait for them, whatever they are: their matchers are free then."""
        for future in self.made:
            future.exception()
