"""What an attempt has streamed that is not written yet, and the writes that become of it.

Pieces of text that gather between two writes become one event.
"""

from collections.abc import Mapping

import msgspec

from shared.domain.records import Append, Finish, Requeue, Write
from workers.execution.attempt import Attempt
from workers.host_protocol.messages import PieceOut

AttemptWrite = tuple[Attempt, Write]
"""A write, and whose it is."""

_encode = msgspec.json.Encoder().encode


class PendingEvents(msgspec.Struct):
    """Of one attempt, in the order in which it came; `end` comes last."""

    said: dict[int, tuple[list[str], list[int]]] = {}
    """By choice, the pieces of text that have gathered, and their tokens."""
    events: list[tuple[str, bytes, str]] = []
    """Kind, data as JSON, token ids separated by commas."""
    end: Finish | Requeue | None = None

    def add_piece(self, attempt: Attempt, piece: PieceOut) -> None:
        if piece.text:
            text, token_ids = self.said.setdefault(piece.choice, ([], []))
            text.append(piece.text)
            token_ids += piece.token_ids
        else:
            self.add_event(attempt, "output", piece.output)

    def add_event(self, attempt: Attempt, kind: str, data: bytes) -> None:
        self._end_text(attempt)
        self.events.append((kind, data, ""))

    def writes(self, attempt: Attempt) -> tuple[list[Append], Finish | Requeue | None]:
        """The events with their numbers, and the end. The attempt's counters go on from there."""
        self._end_text(attempt)
        claim = attempt.claim
        appends: list[Append] = []
        for kind, data, tokens in self.events:
            appends.append(Append(claim.id, claim.attempt, attempt.seq, kind, data, tokens))
            attempt.seq += 1
        attempt.written.extend(appends)
        if self.end is None:
            return appends, None
        # An attempt that was let go does not say what its log must hold.
        seq = 0 if attempt.fenced else attempt.seq
        return appends, msgspec.structs.replace(self.end, seq=seq)

    def _end_text(self, attempt: Attempt) -> None:
        """Make one event of the text that has gathered, of each choice that has said something."""
        for choice, (text, token_ids) in self.said.items():
            index = attempt.indexes.get(choice, 0)
            data: dict[str, str | int] = {"text": "".join(text), "index": index}
            if choice:
                data["choice"] = choice
            attempt.indexes[choice] = index + max(1, len(token_ids))
            self.events.append(("token", _encode(data), ",".join(map(str, token_ids))))
        self.said = {}


def writes_of(batch: Mapping[Attempt, PendingEvents]) -> list[AttemptWrite]:
    """All events first, so that one script call takes them together, then the ends."""
    appends: list[AttemptWrite] = []
    ends: list[AttemptWrite] = []
    for attempt, pending in batch.items():
        events, end = pending.writes(attempt)
        appends += [(attempt, event) for event in events]
        if end is not None:
            ends.append((attempt, end))
    return appends + ends
