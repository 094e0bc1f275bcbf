"""Matrix products whose rows do not depend on how many rows there are.

A CPU library picks its kernel, and with it the order of additions, by the number of rows. In float32
that moves the last bits and is not seen in a text; in bfloat16 and float16 a sum is rounded to 8 or
11 bits, and a greedy token can turn out another one because somebody else's tokens share the step.
Here such products run in blocks of one fixed shape, the last one filled up with zeros.

A lone row costs about what it did, since an AMX tile has as many rows as a block; the more rows a step has,
the more weights are read again, a block each. So this is for what `packed_weights` cannot take: experts,
layers of a class of their own, and weights that a model reads itself.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

ROWS = 16
"""Rows of a block: those of an AMX tile, so that a lone row costs what it did."""

_GROUPED_MM = getattr(torch, "_grouped_mm", None)
"""What `torch.nn.functional.grouped_mm` calls, and the first that a function mode sees of it."""


def fixed_rows(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """A context in which a model's products run in blocks, where its dtype and device want that."""
    return RowBlocks() if wants_fixed_rows(device, dtype) else nullcontext()


def wants_fixed_rows(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the number of rows can be seen in what a model says."""
    return device.type == "cpu" and dtype in (torch.bfloat16, torch.float16)


class RowBlocks(TorchFunctionMode):
    """Runs `linear`, `addmm` and `grouped_mm`, which layers and experts are made of, in blocks."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch for every function of its own, in place of that function."""
        options = kwargs or {}
        if func is functional.linear:
            rows, *rest = args
            return _in_blocks(rows, lambda block: functional.linear(block, *rest, **options))
        if func is torch.addmm and args[0].dim() == 1:
            bias, rows, *rest = args
            return _in_blocks(rows, lambda block: torch.addmm(bias, block, *rest, **options))
        if func is _GROUPED_MM and options.get("bias") is None:
            rows, weights = args
            if (rows.dim(), weights.dim()) == (2, 3):
                return _by_expert(rows, weights, options["offs"])
        return func(*args, **options)


def _by_expert(rows: torch.Tensor, weights: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """[T, K] and [experts, K, N] to [T, N]; `ends` [experts] says where each expert's rows end.

    Rows behind the last end belong to nobody and come out as zeros.
    """
    found = rows.new_zeros(len(rows), weights.shape[-1])
    start = 0
    for weight, end in zip(weights, ends.tolist(), strict=True):
        if end > start:
            found[start:end] = _in_blocks(rows[start:end], partial(_times, weight))
        start = end
    return found


def _times(weight: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    return block @ weight


def _in_blocks(rows: torch.Tensor, product: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """[..., K] to [..., N], `product` taking [ROWS, K] to [ROWS, N]."""
    flat = rows.reshape(-1, rows.shape[-1])
    count = len(flat)
    filled = functional.pad(flat, (0, 0, 0, -count % ROWS))
    blocks = [product(filled[at : at + ROWS]) for at in range(0, count, ROWS)]
    found = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
    return found[:count].reshape(*rows.shape[:-1], found.shape[-1])
