"""Reads how weights are quantised, and refuses what transformers does not read.

A method that transformers does not know is skipped by it with a warning: the weights are then taken for
numbers without their scales.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.domain.errors import ConfigError
from workers.engines.loading.fit import headers
from workers.engines.loading.local_model import read_json

SIDE_FILES = (
    "hf_quant_config.json",
    "quantize_config.json",
    "quant_config.json",
    "quantization_config.json",
    "quanto_qmap.json",
    "quant_model_description.json",
)
"""Where tools write their method down, and transformers does not look."""
OTHER_KEYS = ("compression_config", "quantization")
"""Keys of config.json under which compressed-tensors of old and MLX write their method down."""
NAMES = ("quant_method", "quant_algo", "quant_type", "algorithm", "format", "bits", "w_bit")
READ_HERE = "fp8, mxfp4 or compressed-tensors"
"""Methods that need no kernels: on a CPU their weights are dequantised when they are loaded."""
PACKED_TYPES = frozenset({"I8", "U8", "I16", "U16", "I32", "U32"})
PACKED_NAMES = ("weight", "qweight", "packed", "blocks")


@dataclass(frozen=True, slots=True)
class Quantization:
    """A method that transformers reads. `plain`: it gives back numbers in full precision."""

    method: str
    config: Any
    plain: bool

    @property
    def options(self) -> dict[str, Any]:
        """What `from_pretrained` has to be told."""
        return {"quantization_config": type(self.config)(dequantize=True)} if self.plain else {}


def quantization(path: Path, on_cpu: bool, where: str) -> Quantization | None:
    """How the weights in `path` are quantised; None where they are not.

    Raises `ConfigError` naming the method for one that would be read as something else, or not at all here.
    """
    config = read_json(path / "config.json", where)
    said = config.get("quantization_config")
    inner = config.get("text_config")
    if not said and isinstance(inner, dict):
        said = inner.get("quantization_config")
    if not said:
        _refuse_unread(path, config, where)
        return None
    return _known(path, said, on_cpu, where)


def _known(path: Path, said: Any, on_cpu: bool, where: str) -> Quantization:
    from transformers.quantizers import AutoHfQuantizer, AutoQuantizationConfig
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    if not isinstance(said, dict):
        raise ConfigError(f"{where}: quantization_config in {path / 'config.json'} is no object")
    method = str(said.get("quant_method") or _named(said))
    flags = said.get("load_in_4bit") or said.get("load_in_8bit")
    if said.get("quant_method") not in AUTO_QUANTIZATION_CONFIG_MAPPING and not flags:
        raise ConfigError(
            f"{where}: {path} is quantised by {method}, which transformers does not read;"
            " take a checkpoint without it, or an engine that does"
        )
    try:
        config = AutoQuantizationConfig.from_dict(dict(said))
        if on_cpu and hasattr(config, "dequantize"):
            config.dequantize = True
        quantizer = AutoHfQuantizer.from_config(config, pre_quantized=True)
        quantizer.validate_environment(device_map=None)
    except (AttributeError, ImportError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{where}: {path} is quantised by {method}, which cannot be read here: {str(error).rstrip('.')};"
            f" have its kernels installed, or take a checkpoint that is not quantised, or by {READ_HERE}"
        ) from error
    if getattr(config, "load_in_8bit", False) and config.llm_int8_threshold:
        raise ConfigError(
            f"{where}: {path} is quantised by bitsandbytes with llm_int8_threshold"
            f" {config.llm_int8_threshold:g}, by which the texts of a batch change one another; set it to 0"
            " in its config.json"
        )
    return Quantization(method, config, bool(getattr(config, "dequantize", False)))


def _refuse_unread(path: Path, config: dict[str, Any], where: str) -> None:
    """Raise for every sign of a method that config.json's `quantization_config` does not tell."""
    signs = {f"{key} in config.json": config[key] for key in OTHER_KEYS if config.get(key)}
    for name, part in config.items():
        if isinstance(part, dict) and part.get("quantization_config"):
            signs[f"{name}.quantization_config"] = part["quantization_config"]
    for name in SIDE_FILES:
        if (path / name).is_file():
            signs[name] = read_json(path / name, where)
    for place, said in signs.items():
        raise ConfigError(
            f"{where}: {path} is quantised by {_named(said)} ({place}), which transformers does not read;"
            " take a checkpoint without it, or an engine that does"
        )
    for file, tensors in headers(path, where):
        for name, tensor in tensors.items():
            kind = str(tensor["dtype"])
            last = name.rsplit(".", 1)[-1]
            packed = kind in PACKED_TYPES and len(tensor["shape"]) > 1
            if kind.startswith(("F4", "F6", "F8")) or (packed and last.endswith(PACKED_NAMES)):
                raise ConfigError(
                    f"{where}: {name} in {file.name} is stored as {kind}, and no quantization_config in"
                    " config.json says how it is read"
                )


def _named(said: Any) -> str:
    """The most telling words of a description, wherever they stand in it."""
    found: list[str] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(f"{name} {value[name]}" for name in NAMES if _tells(value.get(name)))
            producer = value.get("producer")
            if isinstance(producer, dict) and producer.get("name"):
                found.insert(0, str(producer["name"]))
            for part in value.values():
                look(part)

    look(said)
    return ", ".join(dict.fromkeys(found[:3])) or json.dumps(said)[:80]


def _tells(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)
