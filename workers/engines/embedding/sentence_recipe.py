"""Reads how a directory wants texts turned into vectors, from sentence-transformers' file layout.

Every key that changes a vector is honoured, or refused by the name of file and key. The reference is what
sentence-transformers 6.2 computes: https://sbert.net/docs/package_reference/sentence_transformer/models.html
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from shared.domain.errors import ConfigError
from workers.engines.embedding.pooling import MODES
from workers.engines.embedding.sentence_settings import (
    FILES,
    TransformerSettings,
    check_keys,
    count,
    part,
    read_settings,
)
from workers.engines.loading.local_model import check_directory, read_json

NAMESPACE = "sentence_transformers."
"""Module types from elsewhere are code that the directory brings."""
LINE = ("idx", "name", "path", "type", "kwargs")
"""Keys of a module in modules.json; the order is the list's, `kwargs` only names what callers may pass."""
AFTER_POOLING = ("Normalize", "Dropout")
"""Dropout does nothing in a model that is not trained."""
LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""In the order in which several are put one behind the other."""
LAYOUT = ("config_sentence_transformers.json", "1_Pooling", *FILES)
"""Files that mean nothing without a modules.json."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """`root` holds the transformer. `pooling` is empty where a plain transformer's kind decides.

    `include_prompt`: pooling counts the tokens of a prompt. `truncate` cuts vectors, after `normalize`.
    """

    root: Path
    pooling: tuple[str, ...] = ()
    normalize: bool = False
    include_prompt: bool = True
    settings: TransformerSettings = field(default_factory=TransformerSettings)
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    truncate: int | None = None


@dataclass(frozen=True, slots=True)
class Module:
    """A line of modules.json: `kind` is the last part of its type."""

    kind: str
    folder: Path


def read_recipe(path: Path, where: str) -> Recipe:
    """The recipe of a model directory.

    Raises `ConfigError` for what this engine does not do, naming the file and the key.
    """
    listing = path / "modules.json"
    if not listing.exists():
        _refuse_half_a_layout(path, where)
        check_directory(path, where)
        return Recipe(path)
    of_the_whole = _model_settings(path / "config_sentence_transformers.json", where)
    transformer, pooling, *rest = _modules(path, listing, where)
    check_directory(transformer.folder, where)
    modes, include_prompt = _pooling(pooling.folder, where)
    normalizes = [_normalizes(module, where) for module in rest]
    return Recipe(
        transformer.folder,
        modes,
        any(normalizes),
        include_prompt,
        read_settings(transformer.folder, where),
        **of_the_whole,
    )


def _refuse_half_a_layout(path: Path, where: str) -> None:
    found = [name for name in LAYOUT if (path / name).exists()]
    if found:
        raise ConfigError(
            f"{where}: {path} has {', '.join(found)} and no modules.json, without which they count for"
            " nothing; fetch the whole model"
        )


def _modules(path: Path, listing: Path, where: str) -> list[Module]:
    """Transformer, Pooling, and what follows them."""
    try:
        lines = json.loads(listing.read_text("utf-8"))
        types = [str(line["type"]) for line in lines]
        folders = [path / str(line["path"]) for line in lines]
        names = [str(line["name"]) for line in lines if "name" in line]
        keys = {key for line in lines for key in line}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{where}: cannot read {listing}: {error!r}") from None
    check_keys(dict.fromkeys(keys), LINE, f"{where}: {listing}")
    foreign = [name for name in types if not name.startswith(NAMESPACE)]
    if foreign:
        raise ConfigError(
            f"{where}: {listing} names code of its own, which is never run: {', '.join(foreign)}"
        )
    for folder in folders:
        if not folder.resolve().is_relative_to(path.resolve()):
            raise ConfigError(f"{where}: {listing} points outside of {path}: {folder}")
    kinds = [name.rsplit(".", 1)[-1] for name in types]
    known = kinds[:2] == ["Transformer", "Pooling"] and set(kinds[2:]) <= set(AFTER_POOLING)
    if not known or len(set(names)) < len(names):
        raise ConfigError(
            f"{where}: {listing} must list Transformer, Pooling, and then nothing but"
            f" {' and '.join(AFTER_POOLING)}, each under a name of its own; got {', '.join(kinds)}"
        )
    return [Module(kind, folder) for kind, folder in zip(kinds, folders, strict=True)]


def _pooling(folder: Path, where: str) -> tuple[tuple[str, ...], bool]:
    """The modes of Pooling, and whether a prompt's tokens count."""
    file = folder / "config.json"
    if not file.exists():
        raise ConfigError(f"{where}: there is no {file}")
    config = read_json(file, where)
    known = {"pooling_mode", "include_prompt", "embedding_dimension", "word_embedding_dimension"}
    check_keys(config, known.union(LEGACY_MODES), f"{where}: {file}")
    named = config.get("pooling_mode")
    if named is None:
        named = [mode for key, mode in LEGACY_MODES.items() if config.get(key)] or "mean"
    modes: Sequence[Any] = [named] if isinstance(named, str) else named
    if not isinstance(modes, list) or not modes or any(mode not in list(MODES) for mode in modes):
        raise ConfigError(
            f"{where}: {file}: pooling_mode {named!r} is not supported, only {', '.join(MODES)}"
        )
    return tuple(modes), bool(config.get("include_prompt", True))


def _normalizes(module: Module, where: str) -> bool:
    """Whether a module makes vectors' length 1."""
    if module.kind != "Normalize":
        return False
    config = read_json(module.folder / "config.json", where)
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise ConfigError(
                f"{where}: {module.folder / 'config.json'}: {key} must be sentence_embedding, got"
                f" {config[key]!r}"
            )
    return True


def _model_settings(file: Path, where: str) -> dict[str, Any]:
    """`prompts`, `default_prompt` and `truncate` of config_sentence_transformers.json."""
    config = read_json(file, where)
    place = f"{where}: {file}"
    kind = config.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise ConfigError(f"{place}: model_type {kind!r} makes no embeddings of this kind")
    unused = ("__version__", "similarity_fn_name")
    known = ("model_type", "prompts", "default_prompt_name", "truncate_dim", "requirements")
    check_keys(config, (*unused, *known), place)
    _check_requirements(part(config, place, "requirements"), place)
    # The library has these two, empty, whatever the file says.
    prompts = {"query": "", "document": ""} | part(config, place, "prompts")
    if not all(text is None or isinstance(text, str) for text in prompts.values()):
        raise ConfigError(f"{place}: prompts must be strings")
    default = config.get("default_prompt_name")
    if default is not None and default not in list(prompts):
        raise ConfigError(f"{place}: default_prompt_name {default!r} is none of prompts")
    return {
        "prompts": {name: text or "" for name, text in prompts.items()},
        "default_prompt": default,
        "truncate": count(config, "truncate_dim", place),
    }


def _check_requirements(wanted: Mapping[str, Any], place: str) -> None:
    """Versions of libraries that the model's author asks for, as far as they are used here."""
    for package in ("transformers", "tokenizers", "torch"):
        said = wanted.get(package, wanted.get("pytorch") if package == "torch" else None)
        said = said.get("specifier") if isinstance(said, dict) else said
        try:
            versions = SpecifierSet(said or "", prereleases=True)
        except (InvalidSpecifier, TypeError, AttributeError):
            continue  # as the library does: a typing error makes no model useless
        if not versions.contains(version(package)):
            raise ConfigError(
                f"{place}: requirements: {package} {said}; here is {version(package)}"
            )
