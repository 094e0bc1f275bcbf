"""What a run on a GPU brought, as it is written to `bench/results/*-gpu.json`."""

import os
import platform
from importlib.metadata import version

import msgspec
import torch

from bench.gpu.models import Size
from bench.gpu.roofline import Bandwidth
from bench.reporting.machine import commit


class Plan(msgspec.Struct, frozen=True):
    """Each of `sizes` answers each of `batches` prompts of `prompt` tokens with `new` ones, in rounds."""

    sizes: list[Size]
    batches: list[int]
    prompt: int
    new: int
    rounds: int
    budget: int
    copied: int


class Device(msgspec.Struct, frozen=True):
    """Where it was measured. `memory` is in GiB."""

    name: str
    memory: float
    cuda: str
    torch: str
    transformers: str
    python: str
    system: str
    commit: str
    load: float


class Row(msgspec.Struct, frozen=True):
    """One way, one batch, one model, a value a round. `fault` says why there are none.

    `rates` are tokens/s from the prompts to the last token, `decode` those of decode steps alone,
    `shares` what part of the bound at the measured bandwidth that is, and `nominal` at the nominal one.
    """

    size: str
    batch: int
    subject: str
    rates: list[float] = []
    decode: list[float] = []
    shares: list[float] = []
    nominal: list[float] = []
    fault: str = ""


class Result(msgspec.Struct, frozen=True):
    """One run. `date` is the UTC day; `engines` are what ours said of itself, by model."""

    date: str
    device: Device
    plan: Plan
    bandwidth: Bandwidth
    engines: dict[str, dict[str, str]]
    rows: list[Row]

    @property
    def stem(self) -> str:
        """The name of the result's files without their endings."""
        return f"{self.date}-gpu"


def look_around(device: torch.device) -> Device:
    """This machine now."""
    name, memory = platform.processor() or platform.machine(), 0.0
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name, memory = properties.name, round(properties.total_memory / 2**30, 1)
    return Device(
        name=name,
        memory=memory,
        cuda=str(torch.version.cuda),
        torch=str(torch.__version__),
        transformers=version("transformers"),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        commit=commit(),
        load=round(os.getloadavg()[0], 2),
    )
