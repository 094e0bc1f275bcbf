"""What vLLM says of a text, read: tokens into words, stop strings, scores, and why the text ends."""

from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workers.engines.base import Piece
from workers.engines.texts.chunks import Chunk, joined
from workers.engines.texts.detokenizer import Detokenizer
from workers.engines.texts.logprobs import LEAST, Name
from workers.engines.texts.pieces import piece_of
from workers.engines.texts.sampling import Score
from workers.engines.texts.sequence import Sequence


@dataclass(slots=True, eq=False)
class Text:
    """A text of a job and the request that stands for it in vLLM; `said` is what this step brought.

    Those of the lowest `priority` go first. `structured`: what it must be made of, as vLLM's parameters. vLLM
    follows a grammar from a text's beginning only, so such a text is made anew with its seed, and `repeats`
    must come again first.
    """

    sequence: Sequence
    request: str
    priority: int
    structured: Mapping[str, Any] | None = None
    cached: int = 0
    said: list[Chunk] = field(default_factory=list)
    repeats: deque[int] = field(default_factory=deque)


class End(NamedTuple):
    """Why a text goes no further: the `reason` that its client is given, or an `error` that ends its job."""

    reason: str
    error: str = ""


class Reader:
    """Reads vLLM's answers with a model's `detokenizer`; `name` gives what a token is called among scores."""

    def __init__(self, detokenizer: Detokenizer, name: Name) -> None:
        self._detokenizer = detokenizer
        self._name = name

    def read(self, text: Text, output: Any, batch_size: int) -> End | None:
        """Take in one output of vLLM's, of a step of `batch_size` texts. None: the text goes on."""
        [completion] = output.outputs
        sequence = text.sequence
        sequence.largest_batch = max(sequence.largest_batch, batch_size)
        count = sequence.sampling.logprobs
        if count is not None:
            self._score(text, output, count)
        reason: str | None = sequence.ended
        for token in completion.token_ids:
            if text.repeats:
                if token == text.repeats.popleft():
                    continue
                return End("", "vLLM does not say again what it had said of this job.")
            if reason is not None:
                break
            reason = self._take(text, token)
            if reason is not None:
                break
        # Of an end token, and of what vLLM said beyond a stop string, nobody is told.
        del sequence.scores[sequence.generated :]
        if reason is None and output.finished:
            if completion.finish_reason not in ("stop", "length"):
                return End("", f"vLLM ended this job: {completion.finish_reason}")
            stopped = self._flush(text, sequence.heeded)
            reason = "stop" if stopped else str(completion.finish_reason)
        return End(reason) if reason is not None else None

    def piece(self, text: Text, reason: str = "") -> Piece | None:
        """What was said since the last piece, with the `reason` if that was all; None: nothing to tell."""
        said = joined(text.said)
        if not said.text and not reason:
            return None
        text.said.clear()
        return piece_of(text.sequence, said, self._name, reason)

    def _score(self, text: Text, output: Any, count: int) -> None:
        """Note how likely the tokens were that have come, and those that an earlier attempt had said."""
        sequence, [completion] = text.sequence, output.outputs
        again = sequence.tokens[sequence.prompt_length + len(sequence.scores) :]
        if again and output.prompt_logprobs and text.structured is None:
            sequence.scores += scores_of(output.prompt_logprobs[-len(again) :], again, count)
        if completion.token_ids:
            sequence.scores += scores_of(completion.logprobs, completion.token_ids, count)

    def _take(self, text: Text, token: int) -> str | None:
        """One token more. Returns why the text ends with it, None when it goes on."""
        sequence = text.sequence
        if token in sequence.ends:
            self._flush(text, sequence.heeded, token)
            return "stop"
        stops = sequence.heeded
        heard = self._detokenizer.push(sequence.spoken, token, stops)
        sequence.tokens.append(token)
        sequence.spoken = heard.spoken
        text.said.append(heard.chunk)
        if heard.stopped:
            return "stop"
        if sequence.generated >= sequence.max_new_tokens:
            return "stop" if self._flush(text, stops) else "length"
        return None

    def _flush(self, text: Text, stops: Items[str], end: int | None = None) -> bool:
        """Say what was held back before the token `end`. True when a stop string ended it."""
        sequence = text.sequence
        rest = self._detokenizer.flush(sequence.spoken, stops, end=end)
        sequence.spoken = rest.spoken
        text.said.append(rest.chunk)
        return rest.stopped


def scores_of(told: Items[Mapping[int, Any]], tokens: Items[int], count: int) -> list[Score]:
    """What vLLM tells of `tokens`: of each the log-probabilities of some tokens, itself among them, by id.

    `count` of the likeliest are kept, best first.
    """
    found = []
    for token, told_of in zip(tokens, told, strict=True):
        ranked = sorted(told_of.items(), key=lambda one: (one[1].rank, one[0]))
        top = tuple((other, _finite(one.logprob)) for other, one in ranked[:count])
        found.append(Score(token, _finite(told_of[token].logprob), top))
    return found


def _finite(logprob: float) -> float:
    return max(float(logprob), LEAST)
