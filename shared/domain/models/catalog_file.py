"""Reads the model catalogue from its YAML file: every fault names the file, the place in it and the value."""

import importlib.util
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from shared.domain.errors import ConfigError
from shared.domain.models.adapters import with_base
from shared.domain.models.catalog import BUILT_IN_ENGINES, Adapter, Catalog, ModelSpec
from shared.domain.requests.params import ENGINES

DEFAULT_CATALOGUE = Path(__file__).resolve().parents[3] / "models" / "catalog.yaml"

OWN_SECRETS = frozenset(
    {
        "REDIS_URL",
        "TRUTHGPT_API_TOKEN",
        "TRUTHGPT_KEY_SECRET",
        "WEBHOOK_HMAC_SECRET",
    }
)
"""Variables that are this server's alone; no engine host gets them."""


def load_catalog(path: Path | None = None) -> Catalog:
    """Read a catalogue, fill in its defaults, resolve its paths against the file's folder.

    Raises `ConfigError` naming the file, the place in it and the value.
    """
    source = (path or DEFAULT_CATALOGUE).resolve()
    try:
        document = yaml.safe_load(source.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"TRUTHGPT_CONFIG: cannot read {source}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"TRUTHGPT_CONFIG: {source} is not YAML: {error}") from None
    models = document.get("models") if isinstance(document, dict) else None
    if not isinstance(models, dict) or not models:
        raise ConfigError(f"TRUTHGPT_CONFIG: {source} needs a mapping 'models' with an entry")
    entries = {str(name): entry for name, entry in models.items()}
    where = f"TRUTHGPT_CONFIG: {source}: models"
    full = {name: with_base(name, entries, where) for name in entries}
    specs = {name: _spec(name, entry, source) for name, entry in full.items()}
    for name in specs:
        _check_fallbacks(name, specs, f"{where}.{name}.fallback")
    return Catalog(_with_adapters(specs, where), source)


def _with_adapters(specs: dict[str, ModelSpec], where: str) -> dict[str, ModelSpec]:
    """Tell each base of its adapters. Raises `ConfigError` for one that takes more than its base does."""
    found: dict[str, list[Adapter]] = {}
    for name, spec in specs.items():
        if spec.base is None or spec.adapter is None:
            continue
        base = specs[spec.base].limits
        for limit in ("max_prompt_tokens", "max_new_tokens"):
            most, wanted = getattr(base, limit), getattr(spec.limits, limit)
            if wanted > most:
                raise ConfigError(
                    f"{where}.{name}.limits.{limit}: {wanted} is more than the {most} of its base"
                    f" {spec.base}, whose cache it uses; raise the base's"
                )
        one = Adapter(name=name, path=spec.adapter, limits=spec.limits)
        found.setdefault(spec.base, []).append(one)
        found[name] = [one]
    return {
        name: spec.model_copy(update={"adapters": tuple(found[name])}) if name in found else spec
        for name, spec in specs.items()
    }


def _check_fallbacks(name: str, specs: dict[str, ModelSpec], where: str) -> None:
    """Follow a model's fallbacks to their end. Raises `ConfigError` where there is none."""
    chain = [name]
    while (name := specs[name].fallback or "") != "":
        if name not in specs:
            raise ConfigError(f"{where}: no model {name!r}")
        if name in chain:
            raise ConfigError(f"{where}: a circle, {' -> '.join([*chain, name])}")
        chain.append(name)


def _spec(name: str, entry: Any, source: Path) -> ModelSpec:
    where = f"TRUTHGPT_CONFIG: {source}: models.{name}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: must be a mapping, got {entry!r}")
    fields = dict(entry)
    engine = fields.get("engine")
    if not isinstance(engine, str) or (engine not in BUILT_IN_ENGINES and ":" not in engine):
        known = ", ".join(sorted(BUILT_IN_ENGINES))
        raise ConfigError(f"{where}.engine: {engine!r} is neither {known} nor package.module:Class")
    for field in ("path", "adapter"):
        if fields.get(field) is not None:
            fields[field] = _resolve(str(fields[field]), source.parent, f"{where}.{field}")
    if fields.get("path") is None and engine in ENGINES and ENGINES[engine].needs_path:
        raise ConfigError(f"{where}.path: the engine {engine} needs a local model directory")
    if fields.get("python") is not None:
        # Not resolved: an environment's interpreter is a link that must be followed by its name.
        fields["python"] = python = source.parent / Path(str(fields["python"])).expanduser()
        if not python.is_file():
            raise ConfigError(f"{where}.python: there is no interpreter {python}")
    _check_env(fields.get("env"), where)
    if fields.get("prefix_cache") and engine != "text-generation":
        raise ConfigError(f"{where}.prefix_cache: only the engine text-generation shares prefixes")
    if fields.get("token_ids") and engine != "embedding":
        raise ConfigError(
            f"{where}.token_ids: only the engine embedding asks for leave to take them"
        )
    if fields.get("speculation", "none") not in ("none", False) and engine != "text-generation":
        raise ConfigError(
            f"{where}.speculation: only the engine text-generation has look-up decoding"
        )
    try:
        return ModelSpec(name=name, **fields)
    except ValidationError as error:
        row = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in row["loc"])
        raise ConfigError(f"{where}.{place}: {row['msg']}, got {row['input']!r}") from None


def _check_env(names: Any, where: str) -> None:
    """Raises `ConfigError` for a variable that an engine host must not have."""
    for name in names if isinstance(names, list) else ():
        if name in OWN_SECRETS:
            raise ConfigError(
                f"{where}.env: {name} is this server's own; give the engine a variable of another name"
            )


def _resolve(value: str, folder: Path, where: str) -> Path:
    """A directory: absolute, relative to the catalogue, or `package:NAME/sub` inside a Python package."""
    if value.startswith("package:"):
        package, _, inside = value.removeprefix("package:").partition("/")
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            raise ConfigError(f"{where}: the package {package!r} is not installed")
        path = Path(found.submodule_search_locations[0]) / inside
    else:
        path = (folder / value).resolve()
    if not path.is_dir():
        raise ConfigError(f"{where}: there is no directory {path}")
    return path
