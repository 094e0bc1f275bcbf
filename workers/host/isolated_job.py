"""A job as the isolation of faults keeps it: its work, and what it said while its culprit is looked for."""

import msgspec

from shared.domain.events import Prefix
from workers.engines.base import Piece, Work


class IsolatedJob(msgspec.Struct):
    """A job that has had no outcome yet, and what it said since it was admitted first."""

    work: Work
    said: dict[int, tuple[list[str], list[int]]] = {}
    """By choice, pieces of text and their tokens."""
    ended: dict[int, str] = {}
    """By choice, why a text has ended whose readers were told that."""
    outputs: int = 0

    @property
    def heard(self) -> bool:
        return bool(self.said or self.outputs)

    def say(self, piece: Piece) -> None:
        if piece.of_text:
            text, token_ids = self.said.setdefault(piece.choice, ([], []))
            text.append(piece.text)
            token_ids += piece.token_ids
            self.ended[piece.choice] = piece.finish_reason
        else:
            self.outputs += 1

    def again(self) -> Work:
        """The work for another admission, decoded anew: the engine may have changed the first one's content.

        All that was streamed is its forced prefix.
        """
        work = self.work.anew()
        if not self.said:
            return work
        before = [work.prefix, *work.further]
        before += [Prefix()] * (1 + max(self.said) - len(before))
        for choice, (text, token_ids) in self.said.items():
            begun = before[choice]
            before[choice] = Prefix(
                begun.text + "".join(text), (*begun.token_ids, *token_ids), self.ended[choice]
            )
        first, *further = before
        return msgspec.structs.replace(
            work,
            text=first.text,
            token_ids=first.token_ids,
            further=tuple(further),
            finish_reason=first.finish_reason,
        )
