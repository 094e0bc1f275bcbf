"""Cuts texts that are longer than a model takes, as the tokenizers library cuts them."""

import copy
import threading
from dataclasses import dataclass
from typing import Any, Literal

Side = Literal["left", "right"]
"""The end of a text at which tokens are left out."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Texts have at most `tokens` tokens, special ones included. `side` None: as the tokenizer says."""

    tokens: int
    side: Side | None = None


def wanted_cut(asked: Any, tokens: int) -> Cut | None:
    """The cut that a job's `truncate` asks for: false or null is none, true the tokenizer's own side."""
    if not asked:
        return None
    return Cut(tokens, None if asked is True else asked)


def cut_ids(ids: list[int], cut: Cut | None, side: str) -> list[int]:
    """Token ids without those that are too many. `side`: where they are left out."""
    if cut is None or len(ids) <= cut.tokens:
        return ids
    return ids[-cut.tokens :] if side == "left" else ids[: cut.tokens]


class Truncation:
    """Gives copies of a tokenizer that cut.

    A tokenizer keeps how it cuts in a state that all of its callers share, and two threads read texts; so
    each cut has a copy, made when it is first asked for.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._made: dict[Cut, Any] = {}
        """Bounded by the lengths that one model has, and two sides."""
        self._lock = threading.Lock()

    def side(self, cut: Cut) -> str:
        """Where tokens are left out."""
        return str(cut.side or self._tokenizer.truncation_side)

    def tokenizer(self, cut: Cut) -> Any:
        """A tokenizer to be called with `truncation="longest_first"` and the cut's `max_length` alone."""
        with self._lock:
            made = self._made.get(cut)
            if made is None:
                made = self._made[cut] = copy.deepcopy(self._tokenizer)
                made.truncation_side = self.side(cut)
        return made
