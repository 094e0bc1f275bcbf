"""What the readers of a text get of each step: its new text, and what that adds to the parts of a message."""

from collections.abc import Sequence as Items
from itertools import zip_longest
from typing import Any

from shared.domain.events import Prefix
from shared.domain.parts import Part, merged
from workers.engines.base import Piece, Work
from workers.engines.texts.chunks import Chunk, joined
from workers.engines.texts.detokenizer import Detokenizer
from workers.engines.texts.logprobs import Name, to_json
from workers.engines.texts.replies import Replies
from workers.engines.texts.sequence import Sequence


def read_as_messages(
    sequences: Items[Sequence],
    replies: Replies,
    work: Work,
    prompt: Items[int],
    detokenizer: Detokenizer,
) -> None:
    """Have the texts of a chat read as messages. Of what earlier attempts have streamed readers were told."""
    for sequence, begun in zip_longest(sequences, [work.prefix, *work.further][: len(sequences)]):
        if (reader := replies.reader(work, prompt, sequence.choice)) is None:
            return
        sequence.reader = reader
        if begun is None:
            continue
        spelled = begun.text
        if reader.marks and not sequence.spoken.specials:
            spelled = _spelled(detokenizer, sequence, begun)
        reader.feed(begun.text, spelled)
        if begun.finish_reason:
            reader.end()
            sequence.ended = begun.finish_reason


def piece_of(sequence: Sequence, said: Chunk, name: Name, reason: str = "") -> Piece | None:
    """Take down what a text has said, and with a `reason` that it has ended; the piece with which readers are
    told, None where there is nothing to tell. `name` spells tokens.
    """
    if said.text:
        sequence.text.append(said.text)
    parts = _parts(sequence, said, ended=bool(reason))
    logprobs = _logprobs(sequence, said, name)
    if not (said.text or parts or logprobs):
        return None
    return Piece(
        sequence.job,
        said.text,
        said.token_ids,
        choice=sequence.choice,
        parts=parts,
        logprobs=logprobs,
        finish_reason=reason if parts is not None else "",
    )


def _parts(sequence: Sequence, said: Chunk, *, ended: bool) -> tuple[Part, ...] | None:
    reader = sequence.reader
    if reader is None:
        return None
    parts = reader.feed(said.text, said.spelled)
    return tuple(merged([*parts, *reader.end()]) if ended else parts)


def _logprobs(sequence: Sequence, said: Chunk, name: Name) -> tuple[dict[str, Any], ...] | None:
    """Those of the tokens that are told, where they are wanted."""
    if sequence.sampling.logprobs is None:
        return None
    start = sequence.told
    sequence.told += len(said.token_ids)
    scores = sequence.scores[start : sequence.told]
    return tuple(to_json(scores, name, alone=sequence.alone, start=start))


def _spelled(detokenizer: Detokenizer, sequence: Sequence, begun: Prefix) -> str:
    """A text as its first attempt has spelled it, with special tokens written out: cut where that has met a
    stop string.
    """
    said, spoken = [], detokenizer.begin()
    for number, token in enumerate(begun.token_ids):
        heard = detokenizer.push(spoken, token, sequence.heeded_behind(number))
        spoken = heard.spoken
        said.append(heard.chunk)
        if heard.stopped:
            break
    else:
        said.append(detokenizer.flush(spoken, sequence.heeded).chunk)
    whole = joined(said)
    surplus = len(whole.text) - len(begun.text)
    return whole.spelled[: len(whole.spelled) - surplus] if surplus > 0 else whole.spelled
