"""Where a model runs and in which number format: the catalogue's `device`, `dtype` and `threads`."""

from dataclasses import dataclass

import psutil
import torch

from shared.catalog import ModelSpec
from shared.errors import ConfigError

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
    device: torch.device
    dtype: torch.dtype

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def free_bytes(self) -> int:
        """Memory that is free on the device now, in bytes."""
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return int(psutil.virtual_memory().available)


def place(spec: ModelSpec) -> Placement:
    """Settle device and dtype, and set torch's threads. Raises `ConfigError` naming the value.

    "auto" is CUDA with bfloat16 where there is CUDA, else the CPU with float32: in bfloat16 a CPU's
    matrix product rounds differently with the number of rows, so a job's greedy text would depend on
    who shares its batch.
    """
    where = f"models.{spec.name}"
    if spec.threads is not None:
        torch.set_num_threads(spec.threads)
    device = _device(spec.device, where)
    if spec.dtype == "auto":
        return Placement(device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    if spec.dtype not in DTYPES:
        raise ConfigError(f"{where}.dtype: {spec.dtype!r} is neither auto nor {', '.join(DTYPES)}")
    return Placement(device, DTYPES[spec.dtype])


def _device(wanted: str | list[str], where: str) -> torch.device:
    if isinstance(wanted, list):
        if len(wanted) != 1:
            raise ConfigError(f"{where}.device: this engine runs on one device, got {wanted!r}")
        wanted = wanted[0]
    if wanted == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise ConfigError(f"{where}.device: {wanted!r} is no device") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"{where}.device: there is no {wanted!r}; CUDA devices here: {count}")
    return device
