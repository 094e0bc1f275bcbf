"""Works out what a step's tokens mean for their sequences: text and ends. Changes nothing."""

from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from itertools import groupby

from workers.engines.text_generation.chunk import Row
from workers.engines.text_generation.sampling.sampler import Chosen
from workers.engines.texts.detokenizer import Chunk as Said
from workers.engines.texts.detokenizer import Detokenizer, Spoken
from workers.engines.texts.sampling import Score
from workers.engines.texts.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Turn:
    """What one sampled token means for its sequence, before anything has changed.

    `scores` are those that this step brought: of the token, and of tokens of an earlier attempt.
    `broken`: the model's numbers are none.
    """

    sequence: Sequence
    spoken: Spoken
    token: int | None = None
    said: Said = field(default_factory=Said)
    reason: str | None = None
    scores: list[Score] = field(default_factory=list)
    broken: bool = False


class Listener:
    """Turns tokens into turns."""

    def __init__(self, detokenizer: Detokenizer) -> None:
        self._detokenizer = detokenizer

    def turns(self, rows: Items[Row], chosen: Chosen) -> Iterator[Turn]:
        """One for each sequence in this step that had logits; its rows stand side by side, in order."""
        for _, group in groupby(range(len(rows)), key=lambda n: rows[n].sequence.id):
            places = list(group)
            sequence, position = rows[places[-1]].sequence, rows[places[-1]].position
            tokens = [chosen.tokens[n] for n in places]
            scores = [chosen.scores[n] for n in places if n in chosen.scores]
            token = tokens[-1]
            if None in tokens or token is None:
                yield Turn(sequence, sequence.spoken, broken=True)
            elif position + 1 < len(sequence.tokens):
                yield Turn(sequence, sequence.spoken, scores=scores)
            elif sequence.ended is not None:
                reason = sequence.ended
                yield Turn(sequence, sequence.spoken, scores=scores[:-1], reason=reason)
            else:
                yield self._turn(sequence, token, scores)

    def _turn(self, sequence: Sequence, token: int, scores: list[Score]) -> Turn:
        """What the token brings: an end, a piece of text, or nothing to show yet."""
        spoken, stops = sequence.spoken, sequence.heeded
        if token in sequence.ends:
            heard = self._detokenizer.flush(spoken, stops, end=token)
            return Turn(sequence, heard.spoken, None, heard.chunk, "stop", scores[:-1])
        heard = self._detokenizer.push(spoken, token, stops)
        said, stopped = heard.chunk, heard.stopped
        full = sequence.generated + 1 >= sequence.max_new_tokens
        if full and not stopped:
            rest = self._detokenizer.flush(heard.spoken, stops)
            said = Said((*said.token_ids, *rest.chunk.token_ids), said.text + rest.chunk.text)
            heard, stopped = rest, rest.stopped
        reason = "stop" if stopped else "length" if full else None
        return Turn(sequence, heard.spoken, token, said, reason, scores)
