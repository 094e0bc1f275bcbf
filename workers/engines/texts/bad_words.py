"""Texts that a model must not write, as tokens: which token may not follow what a text has said."""

from collections.abc import Callable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

Encode = Callable[[str], list[int]]
"""A text's tokens, without those that a tokenizer adds."""


@dataclass(frozen=True, slots=True)
class BadWords:
    """`words` are as they were given. `alone` are tokens that are forbidden everywhere; `after` has, by the
    token before its last, each longer sequence that is.

    Sequences are looked for in what was generated, not across its beginning.
    """

    words: tuple[str, ...] = ()
    alone: tuple[int, ...] = ()
    after: Mapping[int, tuple[tuple[int, ...], ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, words: Items[str], encode: Encode, anchor: str = "") -> "BadWords | None":
        """Each word as it is and with one space before it, cut as at the start of a text and, behind
        `anchor`, as in the middle of one. None for no words.
        """
        sequences: dict[tuple[int, ...], None] = {}
        for word in words:
            for form in dict.fromkeys((word, f" {word.lstrip()}" if word.strip() else word)):
                for ids in (encode(form), _behind(anchor, form, encode)):
                    if ids:
                        sequences[tuple(ids)] = None
        if not sequences:
            return None
        after: dict[int, tuple[tuple[int, ...], ...]] = {}
        for found in sequences:
            if len(found) > 1:
                after[found[-2]] = (*after.get(found[-2], ()), found)
        return cls(tuple(words), tuple(one[0] for one in sequences if len(one) == 1), after)

    def banned(self, said: Items[int]) -> list[int]:
        """The tokens that would complete one of them behind `said`."""
        found = [*self.alone]
        for ids in self.after.get(said[-1], ()) if said else ():
            before = ids[:-1]
            if len(said) >= len(before) and tuple(said[-len(before) :]) == before:
                found.append(ids[-1])
        return found


def _behind(anchor: str, text: str, encode: Encode) -> list[int]:
    """The tokens of a text behind another one, none where they run together."""
    if not anchor:
        return []
    first, whole = encode(anchor), encode(anchor + text)
    return whole[len(first) :] if whole[: len(first)] == first else []
