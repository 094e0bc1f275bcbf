"""Turns tokens into text piece by piece, without half characters and without the start of a stop string.

A state is a value: `push` returns the next one and leaves the old one as it was, so a step that
fails half-way has changed nothing.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from workers.engines.loading.vocabulary import REPLACEMENT, Vocabulary
from workers.engines.texts.chunks import (
    NO_CHUNK,
    Chunk,
    joined,
    shown_before,
    spelled_before,
    whole_chunks,
)
from workers.engines.texts.stop_strings import begun, first_stop

WINDOW = 32
"""Tokens decoded at once before the window's start moves up; decoding all from the start is quadratic."""
CONTEXT = 8
"""Tokens before a text that are decoded with it: a decoder treats the very first token apart."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """How far the text of one sequence has come.

    `window` holds its latest tokens, behind some of the prompt's; the first `committed` of them have become
    text, and decode to `shown` characters, to `spelled` with special tokens written out. `withheld` is text
    that may turn out to begin a stop string; `before` is the end of what an earlier attempt has streamed,
    where a stop string may begin too, and `before_spelled` the same with special tokens written out.
    `specials`: special tokens are part of the text.
    """

    window: tuple[int, ...] = ()
    committed: int = 0
    shown: int = 0
    spelled: int = 0
    withheld: tuple[Chunk, ...] = ()
    before: str = ""
    before_spelled: str = ""
    specials: bool = False


@dataclass(frozen=True, slots=True)
class Heard:
    """What a token brought: the next state, what may be shown now, and if a stop string was met."""

    spoken: Spoken
    chunk: Chunk = NO_CHUNK
    stopped: bool = False


class Detokenizer:
    """Turns a tokenizer's ids into text, token by token.

    Stop strings are looked for in the text as it is shown; those that are a special token, or hold one,
    also in the text with its special tokens written out.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._with_specials = lru_cache(maxsize=1024)(self._holding_specials)

    @classmethod
    def of(cls, tokenizer: Any) -> "Detokenizer":
        """For a transformers tokenizer."""
        return cls(Vocabulary.of(tokenizer))

    def begin(self, prompt: Items[int] = (), *, specials: bool = False) -> Spoken:
        """The state before a text that goes on where `prompt` ends; without one it stands alone."""
        window = self._context(prompt)
        shown = len(self.vocabulary.decode(window)) if window else 0
        return Spoken(window, len(window), shown, shown, specials=specials)

    def resume(
        self,
        spoken: Spoken,
        token_ids: Items[int],
        text: str,
        stops: Items[str],
        unheeded: int = 0,
    ) -> Heard:
        """The state after an earlier attempt that has streamed `text`, or a part of it, as `token_ids`.

        `spoken` is the state before them; in the first `unheeded` of them no stop string counts. `stopped`
        when that attempt had met its stop string.
        """
        if not token_ids:
            return Heard(spoken)
        window = (*spoken.window, *token_ids)
        full = self._text(spoken, window)
        spelled = self._spelled(spoken, window, full)
        skipped, skipped_spelled = len(full), len(spelled)
        if len(token_ids) > unheeded:
            skipped, skipped_spelled = self._unheeded(spoken, token_ids[:unheeded])
        fresh, fresh_spelled = full[skipped:], spelled[skipped_spelled:]
        stopped = first_stop(fresh, stops) is not None
        stopped = stopped or first_stop(fresh_spelled, self._spelled_stops(stops)) is not None
        kept = max((len(stop) for stop in stops), default=1) - 1
        before = _end(text[skipped - spoken.shown :], kept)
        spoken = replace(spoken, before=before, before_spelled=_end(fresh_spelled, kept))
        if self._cut(full, token_ids):
            # Its last character was cut off: should it become whole, it is yet to be shown.
            shown = len(full.rstrip(REPLACEMENT))
            state = replace(
                spoken, window=window, committed=len(window), shown=shown, spelled=shown
            )
        else:
            state = self._commit(spoken, window, full, spelled)
        return Heard(state, stopped=stopped)

    def push(self, spoken: Spoken, token: int, stops: Items[str]) -> Heard:
        """Hear one more token. A returned chunk ends at a token boundary, or at a stop string."""
        window = (*spoken.window, token)
        new = window[spoken.committed :]
        text = self._text(spoken, window)
        open_end = self._cut(text, new) or self._in_bytes(new, spoken.specials)
        silent = open_end or len(text) <= spoken.shown
        hidden = token in self.vocabulary.specials and bool(self._spelled_stops(stops))
        if silent and not hidden:
            return Heard(replace(spoken, window=window))
        spelled = self._spelled(spoken, window, text)
        chunk = Chunk(new, "" if silent else text[spoken.shown :], spelled[spoken.spelled :])
        if open_end:
            # A special token may end the text here; else the character may yet become whole.
            heard = self._release(spoken, (*spoken.withheld, chunk), stops)
            return heard if heard.stopped else Heard(replace(spoken, window=window))
        committed = self._commit(spoken, window, text, spelled)
        return self._release(committed, (*spoken.withheld, chunk), stops)

    def flush(self, spoken: Spoken, stops: Items[str], end: int | None = None) -> Heard:
        """The text is over: all that was held back, cut at a stop string if one shows up in it.
        A character of which bytes are missing is left out of the text. `end` is the token that ended it: it
        is not shown, but a stop string may end in it.
        """
        chunks = (*spoken.withheld, self._rest(spoken))
        if end is not None and self._spelled_stops(stops):
            chunks = (*chunks, Chunk((), "", self.vocabulary.spell((end,))))
        heard = self._release(spoken, chunks, stops)
        return heard if heard.stopped else Heard(Spoken(), joined(chunks))

    def _unheeded(self, spoken: Spoken, token_ids: Items[int]) -> tuple[int, int]:
        """How much of the text, and of it spelled, these first tokens had become before the next one came."""
        ids = list(token_ids)
        text = self._text(spoken, (*spoken.window, *ids))
        while ids and (self._cut(text, ids) or self._in_bytes(ids, spoken.specials)):
            ids.pop()
            text = self._text(spoken, (*spoken.window, *ids))
        return len(text), len(self._spelled(spoken, (*spoken.window, *ids), text))

    def _spelled_stops(self, stops: Items[str]) -> tuple[str, ...]:
        return self._with_specials(tuple(stops)) if stops else ()

    def _holding_specials(self, stops: tuple[str, ...]) -> tuple[str, ...]:
        names = [self.vocabulary.spell((token,)) for token in self.vocabulary.specials]
        return tuple(stop for stop in stops if any(name in stop for name in names))

    def _text(self, spoken: Spoken, ids: Items[int]) -> str:
        return self.vocabulary.spell(ids) if spoken.specials else self.vocabulary.decode(ids)

    def _spelled(self, spoken: Spoken, ids: Items[int], text: str) -> str:
        """`text`, that of `ids`, with special tokens written out."""
        if spoken.specials or self.vocabulary.specials.isdisjoint(ids):
            return text
        return self.vocabulary.spell(ids)

    def _cut(self, text: str, ids: Items[int]) -> bool:
        """The text of tokens that end in `ids` ends inside a character, not in a real U+FFFD."""
        return text.endswith(REPLACEMENT) and not self.vocabulary.ends_in_replacement(ids)

    def _in_bytes(self, ids: Items[int], specials: bool) -> bool:
        """The tokens end in single bytes: one more may change what all of that run stand for.

        A token that is skipped does not end such a run.
        """
        if not self.vocabulary.byte_tokens:
            return False
        for token in reversed(ids):
            if token in self.vocabulary.byte_tokens:
                return True
            if specials and token in self.vocabulary.specials:
                return False
            if self.vocabulary.decode((token,)):
                return False
        return False

    def _context(self, ids: Items[int]) -> tuple[int, ...]:
        """What has to stand before tokens that follow `ids` for them to decode as they do there.

        What a decoder does to the very first token only, dropping its space, say, then happens to one that
        is not shown. Of a word's parts the one before counts. Special tokens are not decoded, and single
        bytes would run together with those that follow; where there is nothing else, any token will do.
        """
        vocabulary = self.vocabulary
        latest = [t for t in ids[-4 * WINDOW :] if t not in vocabulary.specials]
        plain = [t for t in latest if t not in vocabulary.byte_tokens][-CONTEXT:]
        if plain and vocabulary.decode(plain):
            return tuple(plain)
        if latest or any(t not in vocabulary.specials for t in ids):
            return vocabulary.anchor
        return ()

    def _commit(self, spoken: Spoken, window: tuple[int, ...], text: str, spelled: str) -> Spoken:
        """All of the window is text now; drop its old tokens when it has become long."""
        shown, spelled_shown = len(text), len(spelled)
        if len(window) > WINDOW:
            window = self._context(window)
            shown = spelled_shown = len(self.vocabulary.decode(window)) if window else 0
        return replace(
            spoken,
            window=window,
            committed=len(window),
            shown=shown,
            spelled=spelled_shown,
            withheld=(),
        )

    def _rest(self, spoken: Spoken) -> Chunk:
        """The tokens that have not become text yet, and their text up to the last whole character."""
        ids, committed = spoken.window, spoken.committed
        end, text = len(ids), self._text(spoken, ids)
        while end > committed and self._cut(text, ids[committed:end]):
            end -= 1
            longer, text = text, self._text(spoken, ids[:end])
            whole = longer.rstrip(REPLACEMENT)
            if len(whole) > len(text.rstrip(REPLACEMENT)):
                # The token holds a whole character, and the beginning of one.
                end, text = end + 1, whole
                break
        if end == committed:
            return Chunk(ids[committed:])
        spelled = self._spelled(spoken, ids[:end], text).rstrip(REPLACEMENT)
        return Chunk(ids[committed:], text[spoken.shown :], spelled[spoken.spelled :])

    def _release(self, spoken: Spoken, withheld: tuple[Chunk, ...], stops: Items[str]) -> Heard:
        """Split withheld and new text into what may be shown and what may yet become a stop string."""
        if not stops:
            return Heard(spoken, joined(withheld))
        text = spoken.before + "".join(chunk.text for chunk in withheld)
        spelled = spoken.before_spelled + "".join(chunk.spelled for chunk in withheld)
        known, known_spelled = len(spoken.before), len(spoken.before_spelled)
        with_specials = self._spelled_stops(stops)
        ends = []
        if (found := first_stop(text, stops)) is not None:
            end = max(0, found - known)
            ends.append((end, spelled_before(withheld, end)))
        if (found := first_stop(spelled, with_specials)) is not None:
            end = max(0, found - known_spelled)
            ends.append((shown_before(withheld, end), end))
        if ends:
            # What was streamed stays, even where a stop string begins in it. The cut text comes with all
            # its tokens, so that a resumed attempt sees the stop string in them.
            end, spelled_end = min(ends)
            whole = joined(withheld)
            cut, cut_spelled = whole.text[:end], whole.spelled[:spelled_end]
            if self._cut(cut, whole.token_ids):
                cut, cut_spelled = cut.rstrip(REPLACEMENT), cut_spelled.rstrip(REPLACEMENT)
            return Heard(Spoken(), Chunk(whole.token_ids, cut, cut_spelled), stopped=True)
        safe = len(text) - begun(text, stops) - known
        safe_spelled = len(spelled) - begun(spelled, with_specials) - known_spelled
        shown = whole_chunks(withheld, safe, safe_spelled)
        if shown:
            spoken = replace(spoken, before="", before_spelled="")
        return Heard(replace(spoken, withheld=withheld[shown:]), joined(withheld[:shown]))


def _end(text: str, count: int) -> str:
    return text[-count:] if count else ""
