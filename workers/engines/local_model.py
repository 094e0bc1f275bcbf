"""What may be loaded: a directory on this machine with safetensors and no code of its own.

Pickled weights run whatever their author put in, and a model that brings code does so by design.
Both are refused from the listing alone, before any library opens a file.
"""

import json
from pathlib import Path
from typing import Any

from shared.catalog import ModelSpec
from shared.errors import ConfigError

INDEX = "model.safetensors.index.json"
PICKLED = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


def trusted_directory(spec: ModelSpec) -> Path:
    """The model's directory, once its listing has been found safe to load.

    Raises `ConfigError` naming the path and what is wrong with it.
    """
    path = model_directory(spec)
    check_directory(path, f"models.{spec.name}.path")
    return path


def model_directory(spec: ModelSpec) -> Path:
    """The model's directory, not looked into: the transformer may stand in a folder of its own.

    Raises `ConfigError` when there is none.
    """
    where = f"models.{spec.name}.path"
    path = spec.path
    if path is None:
        raise ConfigError(f"{where}: the engine {spec.engine} needs a local model directory")
    if not path.is_dir():
        raise ConfigError(f"{where}: there is no directory {path}")
    return path


def check_directory(path: Path, where: str) -> None:
    """Raise `ConfigError` unless `path` holds a config, safetensors, and nothing that runs."""
    if not (path / "config.json").is_file():
        raise ConfigError(f"{where}: {path} has no config.json")
    if (path / "adapter_config.json").exists():
        raise ConfigError(f"{where}: {path} is an adapter; merge it into its base model first")
    for name in ("config.json", "tokenizer_config.json"):
        if _brings_code(read_json(path / name, where)):
            raise ConfigError(
                f"{where}: {path / name} names code of its own (auto_map); remote code is never run"
            )
    _check_weights(path, where)


def read_json(path: Path, where: str) -> dict[str, Any]:
    """The object in a JSON file, {} when there is no such file. Raises `ConfigError`."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{where}: cannot read {path}: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {path} must hold a JSON object")
    return value


def _brings_code(value: Any) -> bool:
    """`auto_map` may also stand in the config of a part, such as a quantizer's or a text model's."""
    if isinstance(value, dict):
        return bool(value.get("auto_map")) or any(_brings_code(part) for part in value.values())
    if isinstance(value, list):
        return any(_brings_code(part) for part in value)
    return False


def _check_weights(path: Path, where: str) -> None:
    if (path / "model.safetensors").is_file():
        return
    if not (path / INDEX).is_file():
        pickled = sorted(file.name for file in path.iterdir() if file.suffix in PICKLED)
        found = f" Pickled weights are never loaded: {', '.join(pickled)}." if pickled else ""
        raise ConfigError(f"{where}: {path} has no model.safetensors and no {INDEX}.{found}")
    shards = read_json(path / INDEX, where).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ConfigError(f"{where}: {path / INDEX} has no weight_map")
    for shard in sorted({str(name) for name in shards.values()}):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise ConfigError(f"{where}: {path / INDEX} names {shard!r}, which is no safetensors")
        if not (path / shard).is_file():
            raise ConfigError(f"{where}: {path} lacks the shard {shard}")
