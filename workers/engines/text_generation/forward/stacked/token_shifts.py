"""Decodes the token shifts of transformers' RWKV with several rows.

A layer of RWKV mixes each token with the one before it, which its state has for the next step as
[rows, hidden]. In a step of one token transformers adds it as it is to [rows, 1, hidden], and by broadcasting
every row gets the tokens of all rows (findings/rwkv-decodes-one-row.sh). Here it is read with the dimension
that is missing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

SHIFT = "time_shift"
"""The module by which such layers are known, and which a prompt goes through."""
LAST = 2
"""The first tensors of the state hold the last token, of feed-forward and of attention layers."""


class LastTokens:
    """[rows, hidden, layers] of which a layer is read as [rows, 1, hidden] and written as [rows, hidden]."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def __getitem__(self, place: Any) -> torch.Tensor:
        return self._tensor[place].unsqueeze(1)

    def __setitem__(self, place: Any, value: torch.Tensor) -> None:
        self._tensor[place] = value


class TokenShifts:
    """The token shifts of one model, if it has any."""

    def __init__(self, model: Any) -> None:
        self._any = any(hasattr(module, SHIFT) for module in model.modules())

    @contextmanager
    def by_row(self, caches: Mapping[str, Any]) -> Iterator[None]:
        """A pass with one token of each row, whose states are in `caches`."""
        state = caches.get("state")
        if not self._any or not isinstance(state, list):
            yield
            return
        kept = state[:LAST]
        state[:LAST] = map(LastTokens, kept)
        try:
            yield
        finally:
            state[:LAST] = kept
