"""Guesses the next tokens of each text by prompt look-up, as many as pay."""

from collections.abc import Sequence as Items
from dataclasses import dataclass

from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.speculation.costs import Outlook, StepCosts
from workers.engines.text_generation.speculation.ngrams import NGrams
from workers.engines.texts.sequence import Sequence

FORGET = 0.7
"""What an observation weighs after the next one: the last few drafts count."""
FORGIVE = 0.98
"""What failures weigh after a step without a draft: some fifty of them later one is tried again."""
HOPED, FEARED = 0.5, 0.25
"""Right and wrong tokens that are assumed of a text that has had no draft."""


@dataclass(slots=True)
class _Record:
    """Of one text: its index, and how many drafted tokens were right, and drafts that were not."""

    ngrams: NGrams
    right: float = 0.0
    wrong: float = 0.0

    @property
    def rate(self) -> float:
        """How likely the next token of a draft is right."""
        return (self.right + HOPED) / (self.right + self.wrong + HOPED + FEARED)


class Drafter:
    """`size` tokens have to have stood in the text before; a draft has at most `longest` tokens."""

    def __init__(self, costs: StepCosts, size: int, longest: int) -> None:
        self.costs = costs
        self.size = size
        self.longest = longest
        self._records: dict[str, _Record] = {}

    def extend(self, chunks: Items[Chunk], budget: int) -> list[Chunk]:
        """A step with drafts behind the texts that decode, oldest first, `budget` tokens in all.

        Changes nothing that another call would find.
        """
        rows = sum(chunk.length for chunk in chunks)
        outlook = Outlook(rows, rows, mixed=any(chunk.length > 1 for chunk in chunks))
        found: list[Chunk] = []
        for chunk in chunks:
            room = budget - outlook.rows
            if chunk.length == 1 and room > 0 and chunk.sequence.decodes:
                draft, outlook = self._draft(chunk.sequence, room, outlook)
                chunk = chunk.drafting(draft) if draft else chunk
            found.append(chunk)
        return found

    def _draft(
        self, sequence: Sequence, room: int, outlook: Outlook
    ) -> tuple[tuple[int, ...], Outlook]:
        """At most `room` tokens that may follow the text, and what the step is with them.

        A draft never reaches beyond the last token that the text may have, whose successor nobody wants.
        """
        # What a grammar allows behind a token is known once the token is.
        if not sequence.speculates or sequence.matcher is not None:
            return (), outlook
        record = self._records.get(sequence.id)
        if record is None:
            record = self._records[sequence.id] = _Record(NGrams(self.size))
        left = sequence.max_new_tokens - sequence.generated - 1
        found = record.ngrams.guess(sequence.tokens, min(self.longest, room, left))
        if not found:
            return (), outlook
        after = self.costs.best(record.rate, len(found), outlook)
        return found[: after.rows - outlook.rows], after

    def judge(self, sequence: Sequence, drafted: int, accepted: int) -> None:
        """Of `drafted` tokens the first `accepted` were right. 0 drafted: no draft was run in this step."""
        record = self._records.get(sequence.id)
        if record is None:
            return
        if not drafted:
            record.wrong *= FORGIVE
            return
        sequence.drafted += drafted
        sequence.accepted += accepted
        record.right = FORGET * record.right + accepted
        record.wrong = FORGET * record.wrong + (accepted < drafted)

    def forget(self, sequence: Sequence) -> None:
        """Drop what is known of a text that has ended."""
        self._records.pop(sequence.id, None)

    def __len__(self) -> int:
        return len(self._records)
