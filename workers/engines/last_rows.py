"""Leaves out of what follows a model's last attention the rows that nobody looks at.

What is behind the last attention works on each token alone. Where only one token of each text is wanted,
such as the first one that a classifier's head reads, it is run for that one: in a transformer of L layers
about 3 / (4 L) of all products fall away.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

SHAPES = (torch.Tensor.reshape, torch.Tensor.view)


class LastRows(TorchFunctionMode):
    """Takes `rows` of each tensor [1, tokens, width] from before that meets a function while this is entered.

    A model reshapes what its attention gave to as many rows as it has tokens; that becomes as many as `rows`.
    """

    def __init__(self, rows: torch.Tensor, tokens: int) -> None:
        super().__init__()
        self._rows, self._tokens = rows, tokens
        self._made: dict[int, torch.Tensor] = {}
        """What was made since, by id, and only looks as if it had a row for each token."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch for every function of its own, in place of that function."""
        named = {name: self._taken(value) for name, value in (kwargs or {}).items()}
        reshapes = any(func is known for known in SHAPES)
        if reshapes and args[0].dim() == 4 and args[0].shape[1] == len(self._rows):
            taken = (args[0], *self._shape(args[1:]))
        else:
            taken = tuple(map(self._taken, args))
        found = func(*taken, **named)
        for one in found if isinstance(found, tuple | list) else (found,):
            if self._has_row_for_each(one):
                self._made[id(one)] = one
        return found

    def _taken(self, value: Any) -> Any:
        if not self._has_row_for_each(value) or id(value) in self._made:
            return value
        return value.index_select(1, self._rows)

    def _has_row_for_each(self, value: Any) -> bool:
        if not isinstance(value, torch.Tensor) or isinstance(value, torch.nn.Parameter):
            return False
        return value.dim() == 3 and value.shape[:2] == (1, self._tokens)

    def _shape(self, sizes: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(sizes) == 1 and not isinstance(sizes[0], int):
            return (self._shape(tuple(sizes[0])),)
        if len(sizes) == 3 and sizes[:2] == (1, self._tokens):
            return (1, len(self._rows), sizes[2])
        return sizes
