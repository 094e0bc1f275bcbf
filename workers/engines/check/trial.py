"""Loads a directory as its engine would, and runs one input through it."""

import base64
import io
import math
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import Batch, Limits, ModelSpec
from workers.engines.base import EngineInfo, Failed, Work
from workers.engines.check.directory import Found
from workers.engines.loading.fit import ACTIVATIONS
from workers.engines.pipeline.tasks import TASKS
from workers.engines.registry import build

TEXT = "The quick brown fox jumps over the lazy dog."
DOCUMENTS = ["A fox is quick.", "Interest rates rose again.", TEXT]
LABELS = ["animals", "money"]
NEW_TOKENS = 16
MOST_STEPS = 10_000


def entry(path: Path, found: Found, device: str, dtype: str) -> ModelSpec:
    """The entry of a catalogue with which the directory is tried."""
    return ModelSpec(
        name="check",
        engine=found.engine,
        path=path.resolve(),
        device=device,
        dtype=dtype,
        options=found.options,
        batch=Batch(max_size=4, token_budget=256),
        limits=Limits(max_prompt_tokens=100_000, max_new_tokens=NEW_TOKENS),
    )


def memory(found: Found, itemsize: int) -> dict[str, int]:
    """Bytes of the weights with `itemsize` bytes a number, of what they need, and of what is free here."""
    weights = found.weights * itemsize // 4
    return {
        "weights": weights,
        "needed": weights + math.ceil(weights * ACTIVATIONS),
        "free": int(psutil.virtual_memory().available),
    }


def sample(found: Found) -> tuple[Any, dict[str, Any]]:
    """An input that the model takes, and params."""
    if found.engine == "ranking":
        return [["The fox is quick.", document] for document in DOCUMENTS], {"truncate": True}
    if found.engine == "embedding":
        return TEXT, {"truncate": True}
    if found.engine == "text-generation":
        return TEXT, {"max_new_tokens": NEW_TOKENS}
    task = TASKS[found.options["task"]]
    params = {"candidate_labels": LABELS} if task.needed else {}
    if task.medium == "image":
        return {"image": _picture()}, params
    if task.medium == "audio":
        return {"audio": _tone()}, params
    return TEXT, params


def run(spec: ModelSpec, content: Any, params: dict[str, Any]) -> tuple[EngineInfo, Any, float]:
    """What the engine says of itself, its output, and the seconds of the run.

    Raises `ConfigError` for a model that does not load, or fails on the input.
    """
    engine = build(spec)
    info = engine.load()
    began = time.perf_counter()
    engine.admit(Work("check", content, params, seed=0))
    for _ in range(MOST_STEPS):
        for outcome in engine.step().outcomes:
            if isinstance(outcome, Failed):
                raise ConfigError(f"the model fails on {str(content)[:60]!r}: {outcome.message}")
            return info, outcome.output, time.perf_counter() - began
        time.sleep(engine.batch_delay())
    raise ConfigError(f"the model did not end in {MOST_STEPS} steps")


def _picture() -> str:
    packed = io.BytesIO()
    row = np.arange(64, dtype=np.uint8) * 4
    Image.fromarray(np.stack([np.tile(row, (64, 1))] * 3, axis=-1)).save(packed, "PNG")
    return base64.b64encode(packed.getvalue()).decode()


def _tone() -> str:
    packed = io.BytesIO()
    samples = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000) * 10_000
    with wave.open(packed, "wb") as written:
        written.setparams((1, 2, 16_000, 0, "NONE", ""))
        written.writeframes(samples.astype("<i2").tobytes())
    return base64.b64encode(packed.getvalue()).decode()
