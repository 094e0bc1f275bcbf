"""The part of a sequence that goes into one step, and the rows of logits that are wanted of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from workers.engines.texts.sequence import NO_SLOT, Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """`length` tokens of a sequence, from `start` on, to be run in one step in `slot`.

    Of a newcomer the tokens before `start` lie in `source`, to be copied first if that is another slot. The
    last of them may be a `draft`: tokens that the text does not have yet, and that may be wrong. `long`: each
    token is read as one of a long text, wherever it stands, where positions tell texts apart by their length.
    """

    sequence: Sequence
    slot: int
    start: int
    length: int
    source: int = NO_SLOT
    draft: tuple[int, ...] = ()
    long: bool = False

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def samples(self) -> bool:
        """The chunk reaches the text's end: its logits choose the next token, or more with a draft."""
        return self.end - len(self.draft) == len(self.sequence.tokens)

    @property
    def tokens(self) -> list[int]:
        return [*self.sequence.tokens[self.start : self.end], *self.draft]

    @property
    def rows(self) -> "Iterator[Row]":
        """The rows of this chunk whose logits are wanted."""
        for position in range(max(self.start, self.sequence.wanted), self.end):
            yield Row(self.sequence, position, self.draft)

    @property
    def asked(self) -> "Chunk | None":
        """The part of this chunk whose logits are wanted, None where there is none."""
        start = self.sequence.wanted
        if start <= self.start:
            return self
        return replace(self, start=start, length=self.end - start) if start < self.end else None

    def drafting(self, draft: tuple[int, ...]) -> "Chunk":
        """The chunk with a draft behind it, in place of the one that it has."""
        if draft == self.draft:
            return self
        length = self.length - len(self.draft) + len(draft)
        return replace(self, length=length, draft=draft)

    def behind(self, accepted: int) -> "Chunk":
        """The part of the draft behind its first `accepted` tokens."""
        rest = self.draft[accepted:]
        return replace(self, start=self.end - len(rest), length=len(rest), draft=rest)


@dataclass(frozen=True, slots=True)
class Row:
    """A position in a sequence, or in the `draft` behind it, whose logits were wanted."""

    sequence: Sequence
    position: int
    draft: tuple[int, ...] = ()
