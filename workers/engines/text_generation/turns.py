"""Works out what a step's tokens mean for their sequences: text and ends. Changes nothing."""

from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace
from itertools import groupby

from workers.engines.text_generation.chunk import Row
from workers.engines.text_generation.sampling.sampler import NOTHING, Chosen
from workers.engines.texts.chunks import Chunk as Said
from workers.engines.texts.chunks import joined
from workers.engines.texts.detokenizer import Detokenizer, Spoken
from workers.engines.texts.sampling import Score
from workers.engines.texts.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Turn:
    """What a step's sampled tokens mean for their sequence, before anything has changed.

    `tokens` is what the text gets: one token, or more where a draft was right, or none. `accepted` of the
    draft's tokens were right; keys and values of the others are void. `scores` are those that this step
    brought: of the tokens, and of tokens of an earlier attempt. `broken`: the model's numbers are none.
    """

    sequence: Sequence
    spoken: Spoken
    tokens: tuple[int, ...] = ()
    said: Said = field(default_factory=Said)
    reason: str | None = None
    scores: tuple[Score, ...] = ()
    broken: bool = False
    accepted: int = 0


class Listener:
    """Makes of each text's new tokens what its job is told: a piece of text, or its end."""

    def __init__(self, detokenizer: Detokenizer) -> None:
        self.detokenizer = detokenizer

    def turns(self, rows: Items[Row], chosen: Chosen) -> Iterator[Turn]:
        """One for each sequence in this step that had logits; its rows stand side by side, in order."""
        for _, group in groupby(range(len(rows)), key=lambda n: rows[n].sequence.id):
            yield self._turn(list(group), rows, chosen)

    def _turn(self, places: list[int], rows: Items[Row], chosen: Chosen) -> Turn:
        """`places` are those of one sequence's rows."""
        draft = rows[places[0]].draft
        known, drawn = places[: len(places) - len(draft)], places[len(places) - len(draft) - 1 :]
        sequence, position = rows[known[-1]].sequence, rows[known[-1]].position
        turn = Turn(sequence, sequence.spoken)
        if any(chosen.tokens[n] is None for n in known):
            return replace(turn, broken=True)
        scores = tuple(chosen.scores[n] for n in known if n in chosen.scores)
        if position + 1 < len(sequence.tokens):
            return replace(turn, scores=scores)
        if sequence.ended is not None:
            return replace(turn, scores=scores[:-1], reason=sequence.ended)
        if len(scores) > 1:
            turn = replace(turn, scores=scores[:-1])
        for number, place in enumerate(drawn):
            token = chosen.tokens[place]
            if token is None:
                # It broke behind a right token, which is run again by itself.
                return replace(turn, accepted=max(0, number - 1))
            if token == NOTHING:
                return self._dead_end(turn)
            score = (chosen.scores[place],) if place in chosen.scores else ()
            turn = self._after(turn, token, score)
            if turn.reason is not None or draft[number : number + 1] != (token,):
                break
            turn = replace(turn, accepted=number + 1)
        return turn

    def _dead_end(self, turn: Turn) -> Turn:
        """Its grammar knows no way on: the text is complete, or ends as it is."""
        sequence = turn.sequence
        heard = self.detokenizer.flush(turn.spoken, sequence.heeded)
        complete = sequence.matcher is not None and sequence.matcher.complete
        reason = "stop" if complete or heard.stopped else "grammar"
        said = joined((turn.said, heard.chunk))
        return replace(turn, spoken=heard.spoken, said=said, reason=reason)

    def _after(self, turn: Turn, token: int, score: tuple[Score, ...]) -> Turn:
        """What one more token brings: an end, a piece of text, or nothing to show yet."""
        sequence, spoken = turn.sequence, turn.spoken
        stops = sequence.heeded_behind(sequence.generated + len(turn.tokens))
        if token in sequence.ends:
            heard = self.detokenizer.flush(spoken, stops, end=token)
            said = joined((turn.said, heard.chunk))
            return replace(turn, spoken=heard.spoken, said=said, reason="stop")
        heard = self.detokenizer.push(spoken, token, stops)
        said, stopped = heard.chunk, heard.stopped
        if turn.tokens:
            said = joined((turn.said, said))
        tokens = (*turn.tokens, token)
        full = sequence.generated + len(tokens) >= sequence.max_new_tokens
        if full and not stopped:
            heard = self.detokenizer.flush(heard.spoken, stops)
            said, stopped = joined((said, heard.chunk)), heard.stopped
        reason = "stop" if stopped else "length" if full else None
        scores = (*turn.scores, *score)
        return replace(
            turn, spoken=heard.spoken, tokens=tokens, said=said, reason=reason, scores=scores
        )
