"""float32 products on a CPU whose rows do not depend on how many rows there are.

torch's own take one kernel for a lone row, another for a few and a third for many, and each adds in an order
of its own. oneDNN's over weights in its packed layout add along a row in one order from two rows on, so a
lone row is computed beside a copy of itself. That costs a lone row a third to a half more, a step of eight
rows nothing; so it is for texts that are drafted, whose bits must not depend on drafts.
"""

from typing import Any

import torch
from torch import nn

ROWS = 16
"""Rows for which oneDNN picks the layout."""
MANY = 67
FEW = (1, 2, 3, 8, 16, 17, 33)
"""Numbers of rows whose products are compared with the first rows of `MANY`."""


class Product:
    """[..., K] to [..., N] by a weight [N, K] in oneDNN's layout, and a bias."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        self._bias = bias

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        flat = rows.reshape(-1, rows.shape[-1])
        count = len(flat)
        flat = flat.expand(2, -1).contiguous() if count == 1 else flat.contiguous()
        found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            flat, self._weight, self._bias, "none", [], ""
        )
        return found[:count].reshape(*rows.shape[:-1], found.shape[-1])

    @property
    def weight(self) -> torch.Tensor:
        """[N, K], as it was before it was packed."""
        found: torch.Tensor = self._weight.to_dense()
        return found

    @property
    def exact(self) -> bool:
        """Whether its rows come out the same in any number of them, as far as that was tried."""
        width = self._weight.shape[1]
        rows = torch.randn(MANY, width, generator=torch.Generator().manual_seed(0))
        many = self(rows)
        return all(torch.equal(self(rows[:count]), many[:count]) for count in FEW)


def attach(model: Any) -> bool:
    """Give a model's linear layers such products; false, and nothing done, where rows would still differ.

    Weights are packed in place of a layer's own, unless another module has them too.
    """
    layers: list[Any] = [module for module in model.modules() if type(module) is nn.Linear]
    if not torch._C._has_mkldnn or any(map(_is_taken, layers)):
        return False
    shared = _shared(model)
    exact: dict[torch.Size, bool] = {}
    for layer in layers:
        shape = layer.weight.shape
        product = Product(layer.weight, layer.bias)
        if shape not in exact:
            exact[shape] = product.exact
        if not exact[shape]:
            detach(model)
            return False
        layer.forward = product
        if id(layer.weight) not in shared:
            layer.weight.data = layer.weight.data.new_empty(0)
    return True


def detach(model: Any) -> None:
    """Give linear layers their own weights and forward pass back."""
    for module in model.modules():
        product = vars(module).get("forward")
        if isinstance(product, Product):
            if not module.weight.numel():
                module.weight.data = product.weight
            del module.forward


def _is_taken(layer: nn.Linear) -> bool:
    """Whether a layer is computed in a way of its own, or in another number format."""
    return "forward" in vars(layer) or layer.weight.dtype != torch.float32


def _shared(model: Any) -> set[int]:
    """Weights that more than one module has."""
    seen: set[int] = set()
    twice: set[int] = set()
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            (twice if id(weight) in seen else seen).add(id(weight))
    return twice
