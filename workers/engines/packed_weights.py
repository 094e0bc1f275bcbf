"""Matrix products on a CPU whose rows do not depend on how many rows there are.

torch's own take one kernel for a lone row, another for a few and a third for many, and each adds in an order
of its own. oneDNN's over weights in its packed layout add along a row in one order from two rows on, so a
lone row is computed beside a copy of itself. Only where a CPU has tiles for bfloat16 (AMX) does the order
still depend on the number of rows: there they are computed in blocks of one size.

In float32 that costs a lone row a third to a half more and a step of eight rows nothing; so it is for texts
that are drafted, whose bits must not depend on drafts. In bfloat16 and float16 a sum is rounded to 8 or 11
bits, and all texts want it; there packed weights are also the quickest.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

ROWS = 16
"""Rows for which oneDNN picks the layout."""
MANY = 67
FEW = (1, 2, 3, 8, 16, 17, 33)
"""Numbers of rows whose products are compared with the first rows of `MANY`."""
TILED_ROWS = 64
"""Rows of a block on AMX: it costs what one of 16 rows does, where the weights come from memory."""
LARGER = (128, 256)
"""Rows of larger blocks, taken where their products are those of smaller blocks."""


class Product:
    """[..., K] to [..., N] by a weight [N, K] in oneDNN's layout, and a bias.

    Raises `RuntimeError` where oneDNN has no kernel of the weight's dtype for this CPU.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        self._bias = bias

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        flat = rows.reshape(-1, rows.shape[-1])
        return self._of(flat).reshape(*rows.shape[:-1], self._weight.shape[0])

    @property
    def weight(self) -> torch.Tensor:
        """[N, K], as it was before it was packed."""
        found: torch.Tensor = self._weight.to_dense()
        return found

    @property
    def exact(self) -> bool:
        """Whether rows of such a product are the same in any number of them, as far as that was tried."""
        trial, rows = self._trial(MANY)
        many = trial(rows)
        return all(torch.equal(trial(rows[:count]), many[:count]) for count in FEW)

    def _of(self, rows: torch.Tensor) -> torch.Tensor:
        """[n, K] to [n, N]"""
        count = len(rows)
        return self._times(rows.expand(2, -1) if count == 1 else rows)[:count]

    def _times(self, rows: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            rows.contiguous(), self._weight, self._bias, "none", [], ""
        )
        return found

    def _trial(self, count: int) -> tuple["Product", torch.Tensor]:
        """A product of this shape, and rows [count, K] for it, by which another order of additions is seen.

        Each sum is of pairs that cancel, so all that is left of it is what rounding made: of other sums 8
        bits are too few to show it.
        """
        chance = torch.Generator().manual_seed(0)
        names, width = self._weight.shape
        order = torch.randperm(width // 2, generator=chance)
        weight, rows = torch.zeros(names, width), torch.zeros(count, width)
        for values, sign in ((weight, -1), (rows, 1)):
            some = torch.randn(len(values), len(order), generator=chance)
            values[:, : len(order)] = some
            values[:, len(order) : 2 * len(order)] = sign * some[:, order]
        bias = None if self._bias is None else torch.zeros_like(self._bias)
        dtype = self._weight.dtype
        return Product(weight.to(dtype), bias), rows.to(dtype)


class BlockedProduct(Product):
    """A product in blocks of `TILED_ROWS` rows, the last one filled up with zeros.

    Where larger blocks give the same bits, as far as that was tried, many rows run in those.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None = None, sizes: Sequence[int] = ()
    ) -> None:
        """`sizes`: of blocks, the largest first, as `tried_sizes` gave them for this shape."""
        super().__init__(weight, bias)
        self.sizes = sizes or self.tried_sizes()

    def tried_sizes(self) -> list[int]:
        """Sizes of blocks whose rows are those of blocks of `TILED_ROWS`, the largest first."""
        trial, rows = self._trial(max(LARGER))
        small = torch.cat([trial(part) for part in torch.split(rows, TILED_ROWS)])
        sizes = [TILED_ROWS]
        for size in LARGER:
            parts = map(trial, torch.split(rows, size))
            if not all(map(torch.equal, parts, torch.split(small, size))):
                break
            sizes.insert(0, size)
        return sizes

    def _of(self, rows: torch.Tensor) -> torch.Tensor:
        count = len(rows)
        missing = -count % TILED_ROWS
        filled = torch.constant_pad_nd(rows, (0, 0, 0, missing)) if missing else rows
        found, at, end = [], 0, count + missing
        for size in self.sizes:
            while end - at >= size:
                found.append(self._times(filled[at : at + size]))
                at += size
        whole = found[0] if len(found) == 1 else torch.cat(found)
        return whole[:count]


def has_tiles() -> bool:
    """Whether this CPU multiplies bfloat16 by AMX tiles."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def attach(model: Any) -> bool:
    """Give a float32 model's linear layers such products; false, and nothing done, where rows would differ.

    Weights are packed in place of a layer's own, unless another module has them too.
    """
    layers = _layers(model)
    if not torch._C._has_mkldnn or any(_is_taken(layer, torch.float32) for layer in layers):
        return False
    makes, shared = _Maker(), _shared(model)
    for layer in layers:
        if not makes.attach(layer, shared):
            detach(model)
            return False
    return True


def attach_half(
    model: Any, dtype: torch.dtype, called: Collection[nn.Module] | None = None
) -> bool:
    """Give a bfloat16 or float16 model's linear layers such products, those that can have them.

    `called` are layers that a pass calls, where that is known: of others a model reads the weights itself.
    Returns whether no product by other weights is left to the model. See `attach`.
    """
    makes, shared = _Maker(), _shared(model)
    if torch._C._has_mkldnn:
        for layer in _layers(model):
            if not _is_taken(layer, dtype) and (called is None or layer in called):
                makes.attach(layer, shared)
    return all(
        type(module) is nn.Embedding
        or isinstance(vars(module).get("forward"), Product)
        or all(weight.dim() < 2 for weight in module.parameters(recurse=False))
        for module in model.modules()
    )


@contextmanager
def calls(model: Any) -> Iterator[set[nn.Module]]:
    """While passes run: fills the set with the linear layers that they call."""
    called: set[nn.Module] = set()
    hooks = [
        layer.register_forward_hook(lambda layer, *_: called.add(layer)) for layer in _layers(model)
    ]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def copied_bytes(model: Any) -> int:
    """Bytes of weights that are there twice once they are packed, since another module has them too."""
    shared = _shared(model)
    return sum(layer.weight.nbytes for layer in _layers(model) if id(layer.weight) in shared)


def detach(model: Any) -> None:
    """Give linear layers their own weights and forward pass back."""
    for module in model.modules():
        product = vars(module).get("forward")
        if isinstance(product, Product):
            if not module.weight.numel():
                module.weight.data = product.weight
            del module.forward


class _Maker:
    """Packs layers' weights, and tries each shape once."""

    def __init__(self) -> None:
        self._tried: dict[tuple[torch.Size, bool], Sequence[int] | None] = {}
        """By shape: None where rows would differ, else the sizes of blocks, none where any number will do."""

    def attach(self, layer: Any, shared: set[int]) -> bool:
        """Whether the layer could be given a product, and was. `shared`: weights that stay where they are."""
        shape = (layer.weight.shape, layer.bias is not None)
        blocked = layer.weight.dtype == torch.bfloat16 and has_tiles()
        if self._tried.get(shape, ()) is None:
            return False
        try:
            if blocked:
                product: Product = BlockedProduct(
                    layer.weight, layer.bias, self._tried.get(shape) or ()
                )
            else:
                product = Product(layer.weight, layer.bias)
        except RuntimeError:
            # oneDNN has no kernel of this dtype for this CPU.
            self._tried[shape] = None
            return False
        if shape not in self._tried:
            if isinstance(product, BlockedProduct):
                self._tried[shape] = product.sizes
            else:
                self._tried[shape] = () if product.exact else None
        if self._tried[shape] is None:
            return False
        layer.forward = product
        if id(layer.weight) not in shared:
            layer.weight.data = layer.weight.data.new_empty(0)
        return True


def _layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if type(module) is nn.Linear]


def _is_taken(layer: nn.Linear, dtype: torch.dtype) -> bool:
    """Whether a layer is computed in a way of its own, or in another number format."""
    return "forward" in vars(layer) or layer.weight.dtype != dtype


def _shared(model: Any) -> set[int]:
    """Weights that more than one module has."""
    seen: set[int] = set()
    twice: set[int] = set()
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            (twice if id(weight) in seen else seen).add(id(weight))
    return twice
