"""Reads a tokenizer and a model from a directory that was found safe: nothing is fetched, no code is run."""

from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError

from shared.errors import ConfigError
from workers.engines.placement import Placement

UNUSED = ("pooler.",)
"""Weights that a checkpoint may lack, since no engine looks at what comes out of them."""


def read(auto_model: Any, path: Path, placement: Placement, where: str) -> tuple[Any, Any]:
    """Tokenizer and model, in eval mode, on its device. `auto_model` is a transformers Auto class.

    Raises `ConfigError`, also for a checkpoint that lacks weights: transformers would make them up.
    """
    transformers.utils.logging.disable_progress_bar()
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(path), **local)
        model, report = auto_model.from_pretrained(
            str(path),
            dtype=placement.dtype,
            use_safetensors=True,
            output_loading_info=True,
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
    return tokenizer, model.to(placement.device).eval()
