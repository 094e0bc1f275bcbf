"""From tokens to text, piece by piece: no half characters, no start of a stop string.

A state is a value: `push` returns the next one and leaves the old one as it was, so a step that
fails half-way has changed nothing.
"""

import re
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from typing import Any

REPLACEMENT = "\ufffd"
BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
WINDOW = 32
"""Tokens decoded at once before the window's start moves up; decoding all from the start is quadratic."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole tokens and exactly their text."""

    token_ids: tuple[int, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Spoken:
    """How far the text of one sequence has come.

    `window` holds its latest tokens; the first `settled` of them have become text, and decode to
    `shown` characters. `held` is text that may turn out to begin a stop string; `before` is the end
    of what an earlier attempt has streamed, where a stop string may begin too.
    """

    window: tuple[int, ...] = ()
    settled: int = 0
    shown: int = 0
    held: tuple[Chunk, ...] = ()
    before: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a token brought: the next state, what may be shown now, and if a stop string was met."""

    spoken: Spoken
    chunk: Chunk = Chunk()
    stopped: bool = False


class Detokenizer:
    """Turns a tokenizer's ids into text, token by token."""

    def __init__(self, decode: Callable[[Items[int]], str], byte_tokens: frozenset[int]) -> None:
        self._decode = decode
        self._byte_tokens = byte_tokens

    @classmethod
    def of(cls, tokenizer: Any) -> "Detokenizer":
        """For a transformers tokenizer: special tokens are left out, spaces are left alone."""

        def decode(ids: Items[int]) -> str:
            text: str = tokenizer.decode(
                list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            return text

        vocabulary: dict[str, int] = tokenizer.get_vocab()
        return cls(decode, frozenset(vocabulary[t] for t in vocabulary if BYTE_TOKEN.fullmatch(t)))

    def resume(self, token_ids: Items[int], text: str, stops: Items[str]) -> Heard:
        """The state after an earlier attempt; `stopped` when that one had met its stop string."""
        full = self._decode(token_ids) if token_ids else ""
        longest = max((len(stop) for stop in stops), default=0)
        spoken = Spoken(
            window=tuple(token_ids),
            settled=len(token_ids),
            shown=len(full),
            before=text[max(0, len(text) - longest + 1) :] if stops else "",
        )
        return Heard(spoken, stopped=first_stop(full, stops) is not None or len(text) < len(full))

    def push(self, spoken: Spoken, token: int, stops: Items[str]) -> Heard:
        """Hear one more token. A returned chunk ends at a token boundary, or at a stop string."""
        window = (*spoken.window, token)
        text = self._decode(window)
        open_end = text.endswith(REPLACEMENT) or self._in_bytes(window[spoken.settled :])
        if open_end or len(text) <= spoken.shown:
            return Heard(replace(spoken, window=window))
        chunk = Chunk(window[spoken.settled :], text[spoken.shown :])
        return _release(self._settle(spoken, window, text), chunk, stops)

    def flush(self, spoken: Spoken, stops: Items[str]) -> Heard:
        """The text is over: all that was held back, cut at a stop string if one shows up in it."""
        rest = self._decode(spoken.window)[spoken.shown :]
        tail = Chunk(spoken.window[spoken.settled :], rest)
        held = (*spoken.held, tail)
        heard = _release(replace(spoken, held=()), _joined(held), stops)
        if heard.stopped:
            return heard
        return Heard(Spoken(), _joined(held))

    def _in_bytes(self, ids: Items[int]) -> bool:
        """The tokens end in single bytes: one more may change what all of that run stand for.

        A token that is skipped does not end such a run.
        """
        if not self._byte_tokens:
            return False
        for token in reversed(ids):
            if token in self._byte_tokens:
                return True
            if self._decode((token,)):
                return False
        return False

    def _settle(self, spoken: Spoken, window: tuple[int, ...], text: str) -> Spoken:
        """All of the window is text now; drop its old tokens when it has become long.

        The window begins where a run of text began, after at least one token that left text: what a
        decoder does to the very first token only (dropping a space, say) then happens to a token that
        has been shown already, and cancels out.
        """
        settled = len(window)
        if settled <= WINDOW or not spoken.settled:
            return replace(spoken, window=window, settled=settled, shown=len(text))
        kept = window[spoken.settled :]
        shown = len(self._decode(kept))
        if not shown:
            return replace(spoken, window=window, settled=settled, shown=len(text))
        return replace(spoken, window=kept, settled=len(kept), shown=shown)


def first_stop(text: str, stops: Iterable[str]) -> int | None:
    """Where the stop string that is complete first begins; of several, the longest."""
    ends = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return min(ends)[1] if ends else None


def _release(spoken: Spoken, chunk: Chunk, stops: Items[str]) -> Heard:
    """Split held and new text into what may be shown and what may yet become a stop string."""
    held = (*spoken.held, chunk)
    if not stops:
        return Heard(spoken, chunk)
    known = len(spoken.before)
    text = spoken.before + "".join(part.text for part in held)
    stop = first_stop(text, stops)
    if stop is not None:
        # What an earlier attempt has streamed stays, even where a stop string begins in it. The cut
        # text comes with all its tokens, so that a resumed attempt sees the stop string in them.
        ending = Chunk(_joined(held).token_ids, text[known : max(known, stop)])
        return Heard(Spoken(), ending, stopped=True)
    safe = len(text) - _begun(text, stops) - known
    shown, length = 0, 0
    while shown < len(held) and length + len(held[shown].text) <= safe:
        length += len(held[shown].text)
        shown += 1
    before = spoken.before if not shown else ""
    after = replace(spoken, held=held[shown:], before=before)
    return Heard(after, _joined(held[:shown]))


def _begun(text: str, stops: Items[str]) -> int:
    """How many characters at the end of `text` may begin a stop string."""
    longest = min(len(text), max(map(len, stops)) - 1)
    for size in range(longest, 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops if len(stop) > size):
            return size
    return 0


def _joined(chunks: Items[Chunk]) -> Chunk:
    ids = tuple(token for chunk in chunks for token in chunk.token_ids)
    return Chunk(ids, "".join(chunk.text for chunk in chunks))
