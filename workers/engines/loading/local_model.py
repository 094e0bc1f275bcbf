"""Finds a model that may be loaded: a directory on this machine with safetensors and no code of its own.

Pickled weights run whatever their author put in, and a model that brings code does so by design.
Both are refused from the listing alone, before any library opens a file. Code beside an architecture that
transformers has itself is left alone: the class of transformers is loaded.
"""

import json
import logging
from pathlib import Path
from typing import Any

import transformers

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import ModelSpec
from workers.engines.loading.foreign_files import INDEX, refuse_foreign, refuse_without_config

_log = logging.getLogger(__name__)


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
    if path.is_file():
        raise ConfigError(f"{where}: {path} is a file; name the directory that it is in")
    if not path.is_dir():
        raise ConfigError(f"{where}: there is no directory {path}")
    return path


def check_directory(path: Path, where: str) -> None:
    """Raise `ConfigError` unless `path` holds a config, safetensors, and nothing that runs."""
    refuse_foreign(path, where)
    refuse_without_config(path, where)
    if (path / "adapter_config.json").exists():
        raise ConfigError(f"{where}: {path} is an adapter; give it an entry with base and adapter")
    config = read_json(path / "config.json", where)
    tokenizer = read_json(path / "tokenizer_config.json", where)
    brought = {
        "config.json": _brings_code(config),
        "tokenizer_config.json": _brings_code(tokenizer),
    }
    if brought["config.json"] and not _is_native(config):
        raise _own_code(path / "config.json", where)
    if brought["tokenizer_config.json"] and not _is_native_tokenizer(tokenizer):
        raise _own_code(path / "tokenizer_config.json", where)
    if any(brought.values()):
        names = " and ".join(name for name, brings in brought.items() if brings)
        _log.warning(
            "%s: the code that %s of %s names is not run; transformers' own is", where, names, path
        )
    _check_weights(path, where)


def _own_code(file: Path, where: str) -> ConfigError:
    return ConfigError(
        f"{where}: {file} names code of its own (auto_map) for an architecture that transformers does not"
        " have; remote code is never run"
    )


def _is_native(config: dict[str, Any], outermost: bool = True) -> bool:
    """Whether transformers has the architecture, and that of every part that names code as well."""
    if config.get("auto_map") or outermost:
        names = config.get("architectures") or []
        if config.get("model_type") not in transformers.CONFIG_MAPPING or (outermost and not names):
            return False
        if not all(isinstance(name, str) and hasattr(transformers, name) for name in names):
            return False
    parts = [part for part in config.values() if isinstance(part, dict)]
    return all(_is_native(part, False) for part in parts if _brings_code(part))


def _is_native_tokenizer(config: dict[str, Any]) -> bool:
    name = str(config.get("tokenizer_class") or "")
    return bool(name) and (
        hasattr(transformers, name) or hasattr(transformers, name.removesuffix("Fast"))
    )


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
        raise ConfigError(f"{where}: {path} has no model.safetensors and no {INDEX}.")
    shards = read_json(path / INDEX, where).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ConfigError(f"{where}: {path / INDEX} has no weight_map")
    for shard in sorted({str(name) for name in shards.values()}):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise ConfigError(f"{where}: {path / INDEX} names {shard!r}, which is no safetensors")
        if not (path / shard).is_file():
            raise ConfigError(f"{where}: {path} lacks the shard {shard}")
