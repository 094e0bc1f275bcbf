"""Moves numbers between host and device. On CUDA nothing here waits for the device but `download`."""

from collections.abc import Sequence as Items
from typing import Any

import torch


def upload(values: Items[Any], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor of `values` on the device. Through pinned memory on CUDA: a plain copy would wait."""
    if device.type != "cuda":
        return torch.tensor(values, dtype=dtype, device=device)
    pinned = torch.tensor(values, dtype=dtype, pin_memory=True)
    return pinned.to(device, non_blocking=True)


def download(*tensors: torch.Tensor) -> list[Any]:
    """The tensors as nested lists, with one wait for all of them."""
    if not any(tensor.is_cuda for tensor in tensors):
        return [tensor.tolist() for tensor in tensors]
    copies = [_pinned(tensor) for tensor in tensors]
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return [copy.tolist() for copy in copies]


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor, non_blocking=True)
