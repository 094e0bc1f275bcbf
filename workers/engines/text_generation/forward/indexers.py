"""Finds the indexers of sparse attention as DeepSeek V3.2 has it.

Such a layer looks back on the `index_topk` tokens that its indexer scores highest, so what it sees depends on
what a text says, and shows in texts alone that are longer than that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

PART = "indexer"
"""The name under which layers of transformers have it."""
CHOSEN = "index_topk"
"""What it calls how many tokens it chooses."""


def indexers(model: Any) -> list[nn.Module]:
    """The indexers of a model's layers; none where its layers have no such part."""
    found = (getattr(module, PART, None) for module in model.modules())
    return [part for part in found if isinstance(part, nn.Module)]


@contextmanager
def short_choices(model: Any, most: int) -> Iterator[None]:
    """A model whose indexers choose at most `most` tokens, so that short texts show what they choose."""
    kept = [(part, found) for part in indexers(model) if (found := getattr(part, CHOSEN, 0)) > most]
    for part, _ in kept:
        setattr(part, CHOSEN, most)
    try:
        yield
    finally:
        for part, found in kept:
            setattr(part, CHOSEN, found)
