"""What the readers of a text get of each step: its new text, and what that adds to the parts of a message."""

from collections.abc import Sequence as Items
from itertools import zip_longest

from shared.domain.events import Prefix
from shared.domain.parts import merged
from workers.engines.base import Piece, Work
from workers.engines.texts.detokenizer import Chunk, Detokenizer, joined
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
            spelled = _spelled(detokenizer, begun)
        reader.feed(begun.text, spelled)
        if begun.finish_reason:
            reader.end()
            sequence.ended = begun.finish_reason


def piece_of(sequence: Sequence, said: Chunk, reason: str = "") -> Piece | None:
    """Take down what a text has said, and with a `reason` that it has ended; the piece with which readers are
    told, None where there is nothing to tell.
    """
    if said.text:
        sequence.text.append(said.text)
    reader = sequence.reader
    if reader is None:
        if not said.text:
            return None
        return Piece(sequence.job, said.text, said.token_ids, choice=sequence.choice)
    parts = reader.feed(said.text, said.spelled)
    if reason:
        parts = merged([*parts, *reader.end()])
    if not said.text and not parts:
        return None
    return Piece(
        sequence.job,
        said.text,
        said.token_ids,
        choice=sequence.choice,
        parts=tuple(parts),
        finish_reason=reason,
    )


def _spelled(detokenizer: Detokenizer, begun: Prefix) -> str:
    """A text as its first attempt has spelled it, with special tokens written out."""
    said, spoken = [], detokenizer.begin()
    for token in begun.token_ids:
        heard = detokenizer.push(spoken, token, ())
        spoken = heard.spoken
        said.append(heard.chunk)
    said.append(detokenizer.flush(spoken, ()).chunk)
    whole = joined(said)
    surplus = len(whole.text) - len(begun.text)
    return whole.spelled[: len(whole.spelled) - surplus] if surplus > 0 else whole.spelled
