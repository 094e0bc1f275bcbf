"""Lets rows of different lengths share a decode step of a model that chooses which tokens it looks back on.

Sparse attention as DeepSeek V3.2 has it: beside its attention a layer has an indexer, which keeps a key of
each token, scores all of them for the new one and names the `index_topk` best. Each row's indexer runs alone
here, over keys that lie beside nobody else's, so what a row chooses does not depend on who shares the step.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch

from workers.engines.text_generation.forward.indexers import indexers
from workers.engines.text_generation.forward.stacked.row_attention import RowAttention, Unstackable

Only = Callable[[int], AbstractContextManager[None]]
"""While a part of the step runs that has one of its rows alone."""


class _Cache:
    """What an indexer takes for the model's cache: `update` gets the new keys and returns all of them."""

    def __init__(self, update: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._update = update

    def update_indexer(self, keys: torch.Tensor, _layer: int) -> torch.Tensor:
        """All keys of the row, [1, tokens, width]: what `DynamicCache.update_indexer` returns."""
        return self._update(keys)


class RowIndexers:
    """The indexers of a model whose attention is `attention`, if it has any."""

    def __init__(self, model: Any, attention: RowAttention, only: Only) -> None:
        self._indexers = indexers(model)
        self._attention = attention
        self._only = only

    def attach(self) -> None:
        """Let the model's layers call their indexers through here."""
        for indexer in self._indexers:
            vars(indexer)["forward"] = partial(self._choose, indexer.forward)

    def detach(self) -> None:
        """Give the layers their own indexers back."""
        for indexer in self._indexers:
            vars(indexer).pop("forward", None)

    def _choose(
        self, forward: Callable[..., Any], *given: Any, past_key_values: Any = None, **named: Any
    ) -> torch.Tensor | list[torch.Tensor]:
        """The tokens that are looked at, [1, tokens, chosen]; in a decode step a list of them, one a row.

        The cache that the model has is not used: what a row looks back on is kept with its attention.
        """
        if past_key_values is None:
            raise Unstackable("its indexers are called in another way than DeepSeek V3.2's")
        kept = self._attention.part()
        if not self._attention.decodes:
            chosen: torch.Tensor = forward(*given, past_key_values=_Cache(kept.keep), **named)
            return chosen
        found = []
        for row in range(len(given[0])):
            cache = _Cache(partial(kept.extend, row))
            options = {name: _of_row(value, row) for name, value in named.items()}
            with self._only(row):
                arguments = [_of_row(value, row) for value in given]
                found.append(forward(*arguments, past_key_values=cache, **options))
        return found


def _of_row(value: Any, row: int) -> Any:
    """One row's share of an argument. What all rows have in common is each one's."""
    if isinstance(value, torch.Tensor):
        return value[row : row + 1] if len(value) > 1 else value
    if isinstance(value, tuple):
        return tuple(_of_row(part, row) for part in value)
    return value
