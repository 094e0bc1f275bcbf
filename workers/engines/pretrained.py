"""Reads a tokenizer and a model from a directory that was found safe: nothing is fetched, no code is run."""

import atexit
import tempfile
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError

from shared.errors import ConfigError
from workers.engines.device_map import device_map, fits_at_once, rooms
from workers.engines.fit import needed
from workers.engines.placement import Placement

UNUSED = ("pooler.",)
"""Weights that a checkpoint may lack, since no engine looks at what comes out of them."""


def read(auto_model: Any, path: Path, placement: Placement, where: str) -> tuple[Any, Any]:
    """Tokenizer and model, in eval mode, on its devices. `auto_model` is a transformers Auto class.

    Raises `ConfigError`, before anything is loaded if the model does not fit, and for a checkpoint that
    lacks weights: transformers would make them up.
    """
    transformers.utils.logging.disable_progress_bar()
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    need = needed(path, placement.dtype.itemsize, placement.tokens, where)
    whole = fits_at_once(need, placement, where)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(path), **local)
        model, report = auto_model.from_pretrained(
            str(path),
            dtype=placement.dtype,
            use_safetensors=True,
            output_loading_info=True,
            **({} if whole else _spread(auto_model, path, placement, where)),
            **local,
        )
    except (
        AttributeError,
        ImportError,
        KeyError,
        OSError,
        RuntimeError,
        SafetensorError,
        TypeError,
        ValueError,
    ) as error:
        raise ConfigError(f"{where}: cannot load {path}: {error}") from error
    missing = sorted(name for name in report["missing_keys"] if not name.startswith(UNUSED))
    if missing:
        few = ", ".join(missing[:3])
        raise ConfigError(f"{where}: {path} lacks weights of its model: {len(missing)}, as {few}")
    return tokenizer, (model.to(placement.device) if whole else model).eval()


def _spread(auto_model: Any, path: Path, placement: Placement, where: str) -> dict[str, Any]:
    """Options of `from_pretrained` for a model on several devices, and on disk if that is wanted."""
    found = device_map(auto_model, path, placement, rooms(placement), where)
    options: dict[str, Any] = {"device_map": found}
    if "disk" in found.values():
        folder = tempfile.TemporaryDirectory(prefix="truthgpt-offload-")
        atexit.register(folder.cleanup)
        options["offload_folder"] = folder.name
    return options
