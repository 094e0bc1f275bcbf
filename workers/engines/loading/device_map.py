"""Spreads the layers of a model that is larger than one device over several; accelerate decides."""

from pathlib import Path
from typing import Any

import accelerate
import torch
import transformers

from shared.domain.errors import ConfigError
from workers.engines.loading.fit import Need, gib
from workers.engines.loading.placement import Placement

WEIGHTS = 0.9
"""Share of a device's room that may be filled with weights; the rest is for cache and activations."""

Rooms = dict[int | str, int]
"""Bytes by device: CUDA's number, or "cpu"."""


def fits_at_once(need: Need, placement: Placement, where: str) -> bool:
    """Whether the first device takes the whole model.

    Raises `ConfigError` when it does not and the catalogue allows nothing else.
    """
    room = placement.free_bytes()
    if need.total <= room:
        return True
    if len(placement.devices) > 1 or placement.offload is not None:
        return False
    raise ConfigError(
        f"{where}: the model needs {gib(need.total)} ({gib(need.weights)} of weights as"
        f" {placement.dtype_name}), {placement.device} has {gib(room)}; choose a smaller dtype,"
        " more devices, or offload"
    )


def rooms(placement: Placement) -> Rooms:
    """What each device has room for, the first one first."""
    found: Rooms = {}
    for device in placement.devices or (placement.device,):
        key: int | str = (device.index or 0) if device.type == "cuda" else device.type
        found[key] = int(placement.room(device) * WEIGHTS)
    return found


def without_weights(auto_model: Any, path: Path, placement: Placement) -> Any:
    """The model of a directory, in full precision and without memory for its weights."""
    config = transformers.AutoConfig.from_pretrained(
        str(path), local_files_only=True, trust_remote_code=False
    )
    with accelerate.init_empty_weights():
        model = auto_model.from_config(config, dtype=placement.dtype)
    model.tie_weights()
    return model


def device_map(
    auto_model: Any, path: Path, placement: Placement, room: Rooms, where: str
) -> dict[str, int | str]:
    """Device by module name, found on a model without weights.

    Raises `ConfigError` when a layer finds no place, or one where the catalogue does not let it.
    """
    model = without_weights(auto_model, path, placement)
    bounds = dict(room)
    if placement.offload == "cpu" and "cpu" not in bounds:
        bounds["cpu"] = int(placement.room(torch.device("cpu")) * WEIGHTS)
    found: dict[str, int | str] = accelerate.infer_auto_device_map(
        model,
        max_memory=bounds,
        no_split_module_classes=list(model._no_split_modules or ()),
        dtype=placement.dtype,
    )
    lost = sorted(name for name, place in found.items() if place == "disk")
    if lost and placement.offload != "disk":
        sizes = ", ".join(f"{name}: {gib(size)}" for name, size in bounds.items())
        raise ConfigError(
            f"{where}: {len(lost)} parts of the model, as {lost[0]}, find no room ({sizes})"
        )
    return found
