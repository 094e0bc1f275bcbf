"""Log-probabilities of a text's tokens as a job's output has them."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from workers.engines.loading.vocabulary import REPLACEMENT, Vocabulary
from workers.engines.texts.sampling import Score

Name = Callable[[int, bool], dict[str, Any]]
"""What is told of a token, which is the first of its text or not: its text, its id, and its bytes where they
are no whole characters.
"""

LEAST = -9999.0
"""Stands for minus infinity, which JSON does not have."""


def namer(vocabulary: Vocabulary) -> Name:
    """See `Vocabulary.name`; what was asked for lately is remembered."""

    @lru_cache(maxsize=1 << 16)
    def name(token: int, first: bool) -> dict[str, Any]:
        text = vocabulary.name(token, first=first)
        told = {"token": text, "token_id": token}
        return {**told, "bytes": [*vocabulary.raw(token)]} if REPLACEMENT in text else told

    return name


def to_json(
    scores: Iterable[Score], name: Name, *, alone: bool, start: int = 0
) -> list[dict[str, Any]]:
    """The output's `logprobs`: an entry a token, `start` of them being told already. `alone`: the text is one
    of its own, see `Sequence`.
    """
    return [_entry(score, name, alone and n == 0) for n, score in enumerate(scores, start)]


def _entry(score: Score, name: Name, first: bool) -> dict[str, Any]:
    return {
        **name(score.token, first),
        "logprob": score.logprob,
        "top": [{**name(t, first), "logprob": p} for t, p in score.top],
    }
