"""What an attempt has streamed that is not written yet, and the writes that become of it.

Pieces of text that gather between two writes become one event.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.domain.parts import Part, merged
from shared.domain.records import Append, Finish, Requeue, Write
from workers.execution.attempt import Attempt
from workers.host_protocol.messages import PieceOut

AttemptWrite = tuple[Attempt, Write]
"""A write, and whose it is."""

_encode = msgspec.json.Encoder().encode


class _Said(msgspec.Struct):
    """The pieces of one text that have gathered. `parts` is None for a text that is no message."""

    text: list[str] = []
    token_ids: list[int] = []
    parts: list[Part] | None = None
    finish_reason: str = ""
    logprobs: list[bytes] | None = None


class PendingEvents(msgspec.Struct):
    """Of one attempt, in the order in which it came; `end` comes last."""

    said: dict[int, _Said] = {}
    """By choice."""
    events: list[tuple[str, bytes, str]] = []
    """Kind, data as JSON, token ids separated by commas."""
    end: Finish | Requeue | None = None

    def add_piece(self, attempt: Attempt, piece: PieceOut) -> None:
        if piece.of_text:
            said = self.said.setdefault(piece.choice, _Said())
            said.text.append(piece.text)
            said.token_ids += piece.token_ids
            said.finish_reason = piece.finish_reason
            if piece.parts is not None:
                said.parts = [*(said.parts or ()), *piece.parts]
            if piece.logprobs is not None:
                said.logprobs = [*(said.logprobs or ()), *filter(None, (piece.logprobs,))]
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
        for choice, said in self.said.items():
            index = attempt.indexes.get(choice, 0)
            data: dict[str, Any] = {"text": "".join(said.text), "index": index}
            if choice:
                data["choice"] = choice
            if said.parts is not None:
                data["parts"] = merged(said.parts)
            if said.logprobs is not None:
                data["logprobs"] = msgspec.Raw(b"[" + b",".join(said.logprobs) + b"]")
            if said.finish_reason:
                data["finish_reason"] = said.finish_reason
            attempt.indexes[choice] = index + max(1, len(said.token_ids))
            self.events.append(("token", _encode(data), ",".join(map(str, said.token_ids))))
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
