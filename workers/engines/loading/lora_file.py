"""Reads a LoRA adapter as peft writes it, and refuses what is not plain LoRA for this base model.

The format is peft's: `adapter_config.json` beside `adapter_model.safetensors`
(https://huggingface.co/docs/peft/developer_guides/checkpoint). Of two matrices a layer, A [rank, in] and
B [out, rank], a token's output gets `scale * B @ A @ x` added.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from shared.domain.errors import ConfigError
from workers.engines.loading.local_model import read_json
from workers.engines.loading.lora_targets import targets

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
LARGEST_RANK = 256
READ = frozenset(
    {"r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights"}
    | {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"}
    | {"bias", "peft_type", "task_type"}
)
NO_MATTER = frozenset(
    {"auto_mapping", "base_model_name_or_path", "revision", "peft_version", "inference_mode"}
    | {"lora_dropout", "fan_in_fan_out", "megatron_core", "runtime_config", "qalora_group_size"}
    | {"loftq_config", "eva_config", "corda_config", "lora_ga_config", "ensure_weight_tying"}
)
"""Settings that say how an adapter was trained, and change nothing of what it computes."""
PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin a training that leave the base model's weights as they are."""
TASKS = (None, "CAUSAL_LM")
TENSOR = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight"
)


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter's matrices by the names of the base's modules; each B is scaled already."""

    layers: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    rank: int
    """The largest rank of its layers."""


def read_lora(path: Path, model: Any, where: str) -> Lora:
    """The adapter in a directory, for this base model. Matrices are float32, on the CPU.

    Raises `ConfigError` naming the part that is not plain LoRA, or that does not belong to the base.
    """
    config = _config(path, where)
    found = _matrices(path, where)
    try:
        return _assigned(found, config, model, where)
    except (ArithmeticError, re.error, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {CONFIG} cannot be read: {error}") from error


def _assigned(
    found: Mapping[str, Mapping[str, torch.Tensor]], config: dict[str, Any], model: Any, where: str
) -> Lora:
    """What the file holds, by the modules that it changes."""
    modules = dict(model.named_modules())
    expected = targets(model, config, where)
    layers: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, sides in sorted(found.items()):
        inside = next((each for each in _names(name) if each in modules), None)
        if inside is None:
            raise ConfigError(
                f"{where}: it changes {name}, which {type(model).__name__} does not have; it was made for"
                " another base model"
            )
        if inside not in expected:
            raise ConfigError(
                f"{where}: it changes {name}, which is no linear layer that its target_modules name"
            )
        layers[inside] = _checked(name, sides, modules[inside], config, where)
    missing = sorted(expected - set(layers))
    if missing or not layers:
        raise ConfigError(
            f"{where}: {CONFIG} names {len(missing)} layers of the base that {WEIGHTS} has nothing for, as"
            f" {missing[0] if missing else 'none'}; it was made for another base model"
        )
    rank = max(len(a) for a, _ in layers.values())
    if rank > LARGEST_RANK:
        raise ConfigError(
            f"{where}: its rank is {rank}; adapters of up to {LARGEST_RANK} are served, merge this one into"
            " its base model"
        )
    return Lora(layers, rank)


def _config(path: Path, where: str) -> dict[str, Any]:
    """adapter_config.json, once nothing in it asks for what is not done here."""
    if not (path / CONFIG).is_file():
        raise ConfigError(f"{where}: {path} has no {CONFIG}, so it is no adapter of peft")
    config = read_json(path / CONFIG, where)
    if config.get("peft_type") != "LORA":
        raise ConfigError(
            f"{where}: it is a {config.get('peft_type')} adapter; LoRA alone is served, merge it into its"
            " base model"
        )
    if config.get("task_type") not in TASKS:
        raise ConfigError(f"{where}: it was made for {config['task_type']}, not for CAUSAL_LM")
    if config.get("bias", "none") != "none":
        raise ConfigError(
            f"{where}: it has biases (bias: {config['bias']}); merge it into its base model"
        )
    start = config.get("init_lora_weights")
    if start not in PLAIN_STARTS:
        raise ConfigError(
            f"{where}: init_lora_weights {start!r} changes the base model's weights; save it with"
            " path_initial_model_for_weight_conversion to have a plain one"
        )
    for name, value in sorted(config.items()):
        if value and name not in READ and name not in NO_MATTER:
            raise ConfigError(
                f"{where}: it uses {name}, and only plain LoRA is served; merge it into its base model"
            )
    return config


def _matrices(path: Path, where: str) -> dict[str, dict[str, torch.Tensor]]:
    """A and B by the module's name in the file."""
    if not (path / WEIGHTS).is_file():
        pickled = (path / "adapter_model.bin").is_file()
        why = (
            " adapter_model.bin is a pickle, which is never loaded; save it again."
            if pickled
            else ""
        )
        raise ConfigError(f"{where}: {path} has no {WEIGHTS}.{why}")
    try:
        tensors = load_file(path / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{where}: cannot load {path / WEIGHTS}: {error}") from error
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        parts = TENSOR.fullmatch(name)
        if parts is None or not tensor.is_floating_point() or tensor.dim() != 2:
            raise ConfigError(
                f"{where}: {WEIGHTS} holds {name}, which is no matrix of a linear layer; only those are"
                " served, merge it into its base model"
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ConfigError(f"{where}: {name} holds numbers that are none (NaN or infinity)")
        found.setdefault(parts["module"], {})[parts["side"]] = tensor.float()
    return found


def _names(name: str) -> tuple[str, ...]:
    """A module's names in a model, and in one that is only the language part of what was trained."""
    return (name, name.replace("language_model.", "", 1))


def _checked(
    name: str,
    sides: Mapping[str, torch.Tensor],
    module: nn.Module,
    config: Mapping[str, Any],
    where: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    if set(sides) != {"A", "B"}:
        raise ConfigError(f"{where}: {name} has lora_{min(sides)} alone")
    first, second = sides["A"], sides["B"]
    width, height = features(module)
    rank = int(_pattern(config.get("rank_pattern"), name, config.get("r", 8)))
    shapes = (tuple(first.shape), tuple(second.shape))
    if shapes != ((rank, width), (height, rank)):
        raise ConfigError(
            f"{where}: {name} has shapes {shapes[0]} and {shapes[1]}, its base takes {(rank, width)} and"
            f" {(height, rank)}; it was made for another base model"
        )
    alpha = float(_pattern(config.get("alpha_pattern"), name, config.get("lora_alpha", 8)))
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return first, second * scale


def features(module: nn.Module) -> tuple[int, int]:
    """A linear layer's numbers of inputs and outputs."""
    if isinstance(module, Conv1D):
        return int(module.nx), int(module.nf)
    assert isinstance(module, nn.Linear)
    return module.in_features, module.out_features


def _pattern(patterns: Any, name: str, default: Any) -> Any:
    """What a table of patterns says for a module, by the first that matches the end of its name."""
    for pattern, value in (patterns or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", name):
            return value
    return default
