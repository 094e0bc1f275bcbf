"""The part of a sequence that goes into one step, and the rows of logits that are wanted of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from workers.engines.texts.sequence import NO_SLOT, Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """`length` tokens of a sequence, from `start` on, to be run in one step in `slot`.

    Of a newcomer the tokens before `start` lie in `source`, to be copied first if that is another slot.
    `long`: each token is read as one of a long text, wherever it stands, where positions tell texts apart by
    their length.
    """

    sequence: Sequence
    slot: int
    start: int
    length: int
    source: int = NO_SLOT
    long: bool = False

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def samples(self) -> bool:
        """The chunk ends where the text ends: its last logits choose the next token."""
        return self.end == len(self.sequence.tokens)

    @property
    def tokens(self) -> list[int]:
        return self.sequence.tokens[self.start : self.end]

    @property
    def rows(self) -> "Iterator[Row]":
        """Where logits are wanted."""
        for position in range(max(self.start, self.sequence.wanted), self.end):
            yield Row(self.sequence, position)


@dataclass(frozen=True, slots=True)
class Row:
    """A position in a sequence whose logits were wanted."""

    sequence: Sequence
    position: int
