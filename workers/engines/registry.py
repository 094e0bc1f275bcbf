"""Maps an engine's name to its class. Nothing is imported before a model asks for it."""

import importlib
from contextlib import suppress
from typing import Any

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import ModelSpec
from workers.engines.base import Engine
from workers.engines.one_shot import OneShot, OneShotModel

BUILT_IN: dict[str, str] = {
    "echo": "workers.engines.echo:Echo",
    "text-generation": "workers.engines.text_generation.engine:TextGeneration",
    "embedding": "workers.engines.embedding.engine:Embedding",
    "ranking": "workers.engines.ranking.engine:Ranking",
    "pipeline": "workers.engines.pipeline.engine:PipelineEngine",
    "vllm": "workers.engines.vllm.adapter:Vllm",
}
METHODS = ("load", "admit", "cancel", "step", "pending", "batch_delay")


def prepare(spec: ModelSpec) -> None:
    """Import what `build` will need. What goes wrong here goes wrong there again, and is told."""
    module_name, _, _ = BUILT_IN.get(spec.engine, spec.engine).partition(":")
    with suppress(Exception):
        importlib.import_module(module_name)


def build(spec: ModelSpec) -> Engine:
    """The engine of a catalogue entry, not loaded yet: a class of its own or a `OneShotModel`.

    Raises `ConfigError` when the engine's name is unknown or its class cannot be had.
    """
    where = f"models.{spec.name}.engine"
    target = BUILT_IN.get(spec.engine, spec.engine)
    module_name, colon, class_name = target.partition(":")
    if not (module_name and colon and class_name):
        known = ", ".join(sorted(BUILT_IN))
        raise ConfigError(f"{where}: {spec.engine!r} is neither {known} nor package.module:Class")
    engine_class: Any = _load(module_name, class_name, where)
    if issubclass(engine_class, OneShotModel):
        return OneShot(spec, engine_class())
    missing = [name for name in METHODS if not callable(getattr(engine_class, name, None))]
    if missing:
        raise ConfigError(f"{where}: {target} is no engine, it lacks {', '.join(missing)}")
    engine: Engine = engine_class(spec)
    return engine


def _load(module_name: str, class_name: str, where: str) -> type:
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{where}: cannot import {module_name}: {error}") from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type):
        raise ConfigError(f"{where}: {module_name} has no class {class_name!r}")
    return found
