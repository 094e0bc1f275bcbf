"""Matrix products of few rows, in the layout and the order that a CPU is fastest at.

Three ways give the same values up to rounding. torch's own is the fastest for up to three rows; oneDNN's over
weights in its packed layout for more, where memory has room for both layouts; a product with the weights on
the left for 8 to 64 rows without that, and for 16, 32, 48 and 64 in any case.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from workers.engines.text_generation.forward.packed.exact_rows import Product

LEAST, MOST = 8, 64
"""Rows for which float32 products on a CPU take 0.65 to 0.9 of the time when weights stand on the left."""
PACKED = 4
"""Rows from which on products over packed weights take 0.65 to 0.95 of the time of torch's own."""
WHOLE = 16
"""Up to `MOST` rows, multiples of this take 0.88 to 1.0 of packed products with weights on the left."""
TURNED = "is_transposed"
"""What transformers calls a module of experts whose weights are [experts, K, N], and not [experts, N, K]."""


def attach(model: Any, device: torch.device, *, copies: bool = False) -> int:
    """Have a model's linear layers choose by their number of rows, where that pays.

    With `copies` they get their weights a second time in oneDNN's layout. Returns the bytes of those.
    A layer whose weights are fetched when it runs, as those on disk are, has a forward pass of its own.
    Weights of experts that are [experts, K, N] are laid out in memory as others are, for good: that changes
    no value, and products of 2 to 32 rows take 0.6 to 0.8 of the time.
    """
    copied = 0
    if device.type != "cpu":
        return copied
    for module in model.modules():
        if getattr(module, TURNED, False):
            _lay_out(module)
        if not _plain(module):
            continue
        if copies:
            product = Product(module.weight, module.bias)
            module.forward = partial(_packed, module, product)
            copied += module.weight.nbytes
        else:
            module.forward = partial(_turned, module)
    return copied


def detach(model: Any) -> None:
    """Give linear layers their own forward pass back, and the memory of copies to the system."""
    for module in model.modules():
        forward = vars(module).get("forward")
        if isinstance(forward, partial) and forward.func in (_turned, _packed):
            del module.forward


def bytes_of_copies(model: Any, device: torch.device) -> int:
    """What weights take that can be there twice: 0 where there are none, or no oneDNN."""
    if device.type != "cpu" or not torch._C._has_mkldnn:
        return 0
    return sum(module.weight.nbytes for module in model.modules() if _plain(module))


def _lay_out(experts: nn.Module) -> None:
    """One weight after the other, so that one at a time is there twice."""
    for weight in experts.parameters(recurse=False):
        plain = weight.dtype == torch.float32 and weight.device.type == "cpu"
        if weight.dim() == 3 and plain and weight.is_contiguous():
            weight.data = weight.data.transpose(1, 2).contiguous().transpose(1, 2)


def _plain(module: Any) -> bool:
    """Whether this is a linear layer in float32 on a CPU that is computed as torch does it."""
    if type(module) is not nn.Linear or "forward" in vars(module):
        return False
    return module.weight.dtype == torch.float32 and module.weight.device.type == "cpu"


def _packed(layer: nn.Linear, product: Product, rows: torch.Tensor) -> torch.Tensor:
    """[..., K] to [..., N]"""
    count = rows.numel() // rows.shape[-1]
    if count >= PACKED and (count > MOST or count % WHOLE):
        return product(rows)
    return _turned(layer, rows)


def _turned(layer: nn.Linear, rows: torch.Tensor) -> torch.Tensor:
    """[..., K] to [..., N]"""
    count = rows.numel() // rows.shape[-1]
    if not LEAST <= count <= MOST:
        return functional.linear(rows, layer.weight, layer.bias)
    columns = rows.reshape(count, -1).t()
    bias: torch.Tensor | None = layer.bias
    out = layer.weight @ columns
    if bias is not None:
        out += bias[:, None]
    return out.t().contiguous().reshape(*rows.shape[:-1], -1)
