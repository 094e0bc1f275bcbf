"""Finds where the end of a text stood before, and what followed it there.

Prompt look-up decoding: https://github.com/apoorvumang/prompt-lookup-decoding
"""

from collections.abc import Sequence as Items


class NGrams:
    """An index of one text's runs of `size` tokens; it grows with the text.

    It has at most one entry a token of the text. Runs are told apart by their hash: two that share one make a
    wrong guess, and nothing worse.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._after: dict[int, int] = {}
        self._seen = size

    def guess(self, tokens: Items[int], count: int) -> tuple[int, ...]:
        """Up to `count` tokens that followed the last occurrence of the text's last `size` tokens.

        `tokens` begins with what it was before. A text that repeats itself is continued beyond its end by its
        own guess. Nothing when the run has not occurred before.
        """
        size, length = self._size, len(tokens)
        if length <= size or count < 1:
            return ()
        after = self._after
        for end in range(self._seen, length):
            after[hash(tuple(tokens[end - size : end]))] = end
        self._seen = length
        at = after.get(hash(tuple(tokens[length - size :])))
        if at is None:
            return ()
        found = list(tokens[at : at + count])
        period = length - at
        while len(found) < count:
            found.append(found[len(found) - period])
        return tuple(found)
