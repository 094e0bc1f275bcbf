"""What the memory's bandwidth allows: a decode step reads all weights and the keys and values so far."""

import time

import msgspec
import torch

from bench.gpu.models import Size

COPIES = 10


class Bandwidth(msgspec.Struct, frozen=True):
    """GB/s, 10^9 bytes. `nominal` is the memory's clock times its width, None where torch knows neither."""

    measured: float
    nominal: float | None


def bandwidth(device: torch.device, size: int) -> Bandwidth:
    """Measured by the fastest of some copies of `size` bytes; a copy reads and writes each of them."""
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    fastest = float("inf")
    for _ in range(COPIES):
        _wait(device)
        began = time.perf_counter()
        target.copy_(source)
        _wait(device)
        fastest = min(fastest, time.perf_counter() - began)
    return Bandwidth(2 * size / fastest / 1e9, _nominal(device))


def tokens_per_second(
    gbs: float, batch: int, context: float, weights: int, size: Size, dtype: torch.dtype
) -> float:
    """The bound at `gbs` for `batch` sequences of `context` tokens each; arithmetic costs nothing."""
    step = weights + batch * context * size.kv_bytes(dtype)
    return batch * gbs * 1e9 / step


def _nominal(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    kilohertz = getattr(properties, "memory_clock_rate", 0)
    bits = getattr(properties, "memory_bus_width", 0)
    # Two transfers a clock.
    return 2 * kilohertz * 1e3 * bits / 8 / 1e9 if kilohertz and bits else None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
