"""Reads from a catalogue entry where a model runs, in which number format, with how much memory."""

from dataclasses import dataclass
from typing import Literal

import psutil
import torch

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import ModelSpec

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class Placement:
    """`device` comes first among `devices`; more of them, or `offload`, only for what does not fit there.

    `share` of each device's memory may be used. `tokens` is the longest text whose cache must fit.
    """

    device: torch.device
    dtype: torch.dtype
    devices: tuple[torch.device, ...] = ()
    offload: Literal["cpu", "disk"] | None = None
    share: float = 1.0
    tokens: int = 0

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def free_bytes(self) -> int:
        """Memory of the first device that may still be taken, in bytes."""
        return self.room(self.device)

    def room(self, device: torch.device) -> int:
        """Memory of a device that is free and within the share of this process, in bytes."""
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            held = torch.cuda.memory_reserved(device)
        else:
            memory = psutil.virtual_memory()
            free, total, held = memory.available, memory.total, psutil.Process().memory_info().rss
        return max(0, min(int(free), int(total * self.share) - held))


def place(spec: ModelSpec) -> Placement:
    """Settle devices and dtype, set torch's threads and its share of the device's memory.

    Raises `ConfigError` naming the value.

    "auto" is CUDA with bfloat16 where there is CUDA, else the CPU with float32: most CPUs have no
    arithmetic for bfloat16, and where they have it, see `row_blocks` for what it costs.
    """
    where = f"models.{spec.name}"
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    devices = _devices(spec, where)
    dtype = torch.bfloat16 if devices[0].type == "cuda" else torch.float32
    if spec.dtype != "auto":
        if spec.dtype not in DTYPES:
            known = ", ".join(DTYPES)
            raise ConfigError(f"{where}.dtype: {spec.dtype!r} is neither auto nor {known}")
        dtype = DTYPES[spec.dtype]
    for device in devices:
        if device.type == "cuda" and spec.memory_share < 1:
            torch.cuda.set_per_process_memory_fraction(spec.memory_share, device)
    generates = spec.engine == "text-generation"
    limits = spec.limits
    return Placement(
        devices[0],
        dtype,
        devices,
        spec.offload,
        spec.memory_share,
        limits.max_prompt_tokens + limits.max_new_tokens if generates else 0,
    )


def _devices(spec: ModelSpec, where: str) -> tuple[torch.device, ...]:
    count = torch.cuda.device_count()
    if spec.device == "auto":
        if not torch.cuda.is_available():
            return (torch.device("cpu"),)
        wanted = [f"cuda:{n}" for n in range(count if spec.device_map == "auto" else 1)]
    else:
        wanted = [spec.device] if isinstance(spec.device, str) else spec.device
    devices = tuple(_device(name, count, where) for name in wanted)
    if not devices or len(set(devices)) < len(devices):
        raise ConfigError(f"{where}.device: {spec.device!r} names no device or one twice")
    if len(devices) > 1 and any(device.type != "cuda" for device in devices):
        raise ConfigError(f"{where}.device: only CUDA devices can share a model: {spec.device!r}")
    return devices


def _device(wanted: str, count: int, where: str) -> torch.device:
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ConfigError(f"{where}.device: {wanted!r} is no device") from None
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(f"{where}.device: there is no {wanted!r}; CUDA devices here: {count}")
    return device
