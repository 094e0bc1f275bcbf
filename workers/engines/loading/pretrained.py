"""Reads tokenizer and model from a directory that was found safe; nothing is fetched, no code is run."""

import atexit
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError

from shared.domain.errors import ConfigError
from workers.engines.loading.device_map import device_map, fits_at_once, rooms, without_weights
from workers.engines.loading.fit import Need, needed
from workers.engines.loading.load_report import refuse_unread
from workers.engines.loading.placement import Placement
from workers.engines.loading.quantization import Quantization, quantization
from workers.engines.loading.quantized_check import check_kernels
from workers.engines.loading.text_part import TextPart
from workers.engines.loading.tokenizer_file import read_tokenizer

_log = logging.getLogger(__name__)

FULL = 4
"""Bytes of a number that was dequantised, before it is made smaller."""


def read(auto_model: Any, path: Path, placement: Placement, where: str) -> tuple[Any, Any]:
    """Tokenizer and model, in eval mode, on its devices. `auto_model` is a transformers Auto class.

    Raises `ConfigError`, before anything is loaded if the model does not fit or is quantised by a method
    that transformers does not know, and for a checkpoint that lacks weights (transformers would make them
    up) or has some that the model would not use.
    """
    transformers.utils.logging.disable_progress_bar()
    method = quantization(path, placement.device.type == "cpu", where)
    try:
        need = _need(auto_model, path, placement, method, where)
        whole = fits_at_once(need, placement, where)
        tokenizer = read_tokenizer(path, where)
        model, report = auto_model.from_pretrained(
            str(path),
            dtype=placement.dtype,
            use_safetensors=True,
            output_loading_info=True,
            # They are refused below, in words.
            ignore_mismatched_sizes=True,
            local_files_only=True,
            trust_remote_code=False,
            **({} if method is None else method.options),
            **({} if whole else _spread(auto_model, path, placement, where)),
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
    refuse_unread(model, report, path, where)
    if method is not None and method.plain:
        # What comes out of dequantising has its own format, whatever was asked for.
        model = model.to(placement.dtype)
    model = (model.to(placement.device) if whole else model).eval()
    if method is not None and not method.plain:
        layers = check_kernels(model, placement.device, where)
        _log.info("%s: %d layers run with kernels for %s", where, layers, method.method)
    return tokenizer, model


def _need(
    auto_model: Any, path: Path, placement: Placement, method: Quantization | None, where: str
) -> Need:
    """What the model takes once it is loaded: in full precision where it is dequantised, and without the
    parts of it that are left out.
    """
    need = needed(path, placement.dtype.itemsize, placement.tokens, where)
    dequantised = method is not None and method.plain
    if not dequantised and (method is not None or not isinstance(auto_model, TextPart)):
        return need
    numbers = sum(p.numel() for p in without_weights(auto_model, path, placement).parameters())
    full = dequantised and placement.device.type == "cpu"
    return replace(need, weights=numbers * (FULL if full else placement.dtype.itemsize))


def _spread(auto_model: Any, path: Path, placement: Placement, where: str) -> dict[str, Any]:
    """Options of `from_pretrained` for a model on several devices, and on disk if that is wanted."""
    found = device_map(auto_model, path, placement, rooms(placement), where)
    options: dict[str, Any] = {"device_map": found}
    if "disk" in found.values():
        folder = tempfile.TemporaryDirectory(prefix="truthgpt-offload-")
        atexit.register(folder.cleanup)
        options["offload_folder"] = folder.name
    return options
