"""Computes from a model's files whether it fits into memory, before anything is loaded."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.domain.errors import ConfigError
from workers.engines.loading.foreign_files import INDEX
from workers.engines.loading.local_model import read_json

CAST = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes of the formats that loading turns into the wanted one."""
KEPT = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}
LARGEST_HEADER = 100 * 2**20
"""Bytes; the bound that the safetensors format sets."""
ACTIVATIONS = 0.05
"""Share of the weights that is kept free for what a step computes."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes: the weights in the wanted format, the cache of one longest text, room to compute in."""

    weights: int
    cache: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + math.ceil(self.weights * ACTIVATIONS)


def needed(path: Path, itemsize: int, tokens: int, where: str) -> Need:
    """What the model in `path` needs with `itemsize` bytes a number and a text of `tokens` in its cache.

    Raises `ConfigError` for files that are no safetensors.
    """
    weights = sum(weight_bytes(tensors, itemsize) for _, tensors in headers(path, where))
    return Need(weights, cache_bytes(read_json(path / "config.json", where), tokens, itemsize))


def weight_bytes(tensors: Mapping[str, Any], itemsize: int) -> int:
    """Bytes of a file's tensors once its floating point numbers have `itemsize` bytes."""
    total = 0
    for tensor in tensors.values():
        size = itemsize if tensor["dtype"] in CAST else KEPT.get(tensor["dtype"], 1)
        total += math.prod(tensor["shape"]) * size
    return total


def headers(path: Path, where: str) -> Iterable[tuple[Path, dict[str, Any]]]:
    """Every safetensors file of a model with its tensors: dtype and shape by name."""
    for file in _files(path, where):
        yield file, header(file, where)


def header(file: Path, where: str) -> dict[str, Any]:
    """The tensors in the header of a safetensors file: eight bytes of length, then JSON."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > LARGEST_HEADER:
                raise ValueError(f"its header is said to have {length} bytes")
            found = json.loads(opened.read(length))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: cannot load {file}: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: cannot load {file}: its header is no object")
    found.pop("__metadata__", None)
    _check_whole(file, 8 + length, found, where)
    return found


def _check_whole(file: Path, start: int, tensors: Mapping[str, Any], where: str) -> None:
    """Raise `ConfigError` for a file that ends before its tensors do, which begin at byte `start`."""
    ends = [tensor["data_offsets"][1] for tensor in tensors.values() if "data_offsets" in tensor]
    end = start + max(ends, default=0)
    size = file.stat().st_size
    if size < end:
        raise ConfigError(
            f"{where}: {file} was cut off: it has {size:,} of {end:,} bytes; fetch it again"
        )


def cache_bytes(config: Mapping[str, Any], tokens: int, itemsize: int) -> int:
    """Keys and values of one text of `tokens`; 0 where the config does not say what they are."""
    config = config.get("text_config") or config
    layers = config.get("num_hidden_layers") or config.get("n_layer")
    heads = config.get("num_attention_heads") or config.get("n_head")
    width = config.get("hidden_size") or config.get("n_embd")
    if not (layers and heads and width):
        return 0
    groups = config.get("num_key_value_heads") or heads
    head_width = config.get("head_dim") or width // heads
    return int(2 * layers * groups * head_width * tokens * itemsize)


def gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**27 else f"{count / 2**20:.1f} MiB"


def _files(path: Path, where: str) -> Iterable[Path]:
    whole = path / "model.safetensors"
    if whole.is_file():
        return [whole]
    shards = read_json(path / INDEX, where).get("weight_map", {})
    return [path / name for name in sorted(set(shards.values()))]
