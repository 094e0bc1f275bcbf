"""Finds the indexers of sparse attention as DeepSeek V3.2 has it.

Such a layer looks back on the `index_topk` tokens that its indexer scores highest, so what it sees depends on
what a text says, and shows in texts alone that are longer than that.
"""

from typing import Any

from torch import nn

PART = "indexer"
"""The name under which layers of transformers have it."""


def indexers(model: Any) -> list[nn.Module]:
    """The indexers of a model's layers; none where its layers have no such part."""
    found = (getattr(module, PART, None) for module in model.modules())
    return [part for part in found if isinstance(part, nn.Module)]
