"""Reads what holds for a whole sentence-transformers model, from `config_sentence_transformers.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from shared.domain.errors import ConfigError, InputRefused
from workers.engines.loading.local_model import read_json
from workers.engines.sentence_layout.transformer_settings import check_keys, count, part

FILE = "config_sentence_transformers.json"
KEYS = ("__version__", "similarity_fn_name", "model_type", "requirements")
"""Of every kind of model. The first two change no vector."""
PROMPTS = ("prompts", "default_prompt_name")
OWN = {
    "SentenceTransformer": ("truncate_dim",),
    "SparseEncoder": ("max_active_dims",),
    "MultiVectorEncoder": (),
    "CrossEncoder": ("activation_fn",),
}
"""Keys by the kind of model that they belong to."""
OF_A_TASK = {"query": ("query",), "document": ("document", "passage", "corpus")}
"""The prompts that encode_query and encode_document take, the first that the model has."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """`kind` is a key of `OWN`. `truncate` cuts vectors, `max_active` keeps the largest of a sparse one.

    `activation` names a cross-encoder's function; None: as its number of labels wants.
    """

    kind: str = "SentenceTransformer"
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    truncate: int | None = None
    max_active: int | None = None
    activation: str | None = None

    def prompt(self, name: str | None, text: str | None = None, task: str | None = None) -> str:
        """What stands before each text: `text` itself, else the prompt of a name, a task or the default.

        Raises `InputRefused` for a name that the model does not have.
        """
        if text is not None:
            return text
        if name is None and task is not None:
            name = next((one for one in OF_A_TASK.get(task, ()) if one in self.prompts), None)
        name = self.default_prompt if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(self.prompts) or "none"
            raise InputRefused(f"This model has no prompt named {name!r}; it has: {known}.")
        return self.prompts[name]


def read_model_settings(path: Path, where: str, kinds: tuple[str, ...]) -> ModelSettings:
    """The settings of the model in `path`, which must be of one of `kinds`; the first where it says nothing.

    Raises `ConfigError` naming file and key, and for another kind the engine that takes it.
    """
    file = path / FILE
    config = read_json(file, where)
    place = f"{where}: {file}"
    kind = config.get("model_type", kinds[0])
    if kind == "CrossEncoder" and kind not in kinds:
        raise ConfigError(
            f"{place}: model_type 'CrossEncoder' makes scores of pairs and no embeddings; serve it with"
            " engine: ranking"
        )
    if kind not in kinds:
        engine = "; serve it with engine: embedding" if kind in list(OWN) else ""
        raise ConfigError(f"{place}: model_type {kind!r} is not supported here{engine}")
    check_keys(config, (*KEYS, *PROMPTS, *OWN[kind]), place)
    _check_requirements(part(config, place, "requirements"), place)
    # The library has these two, empty, whatever the file says; a cross-encoder has none of its own.
    always = {} if kind == "CrossEncoder" else {"query": "", "document": ""}
    prompts = always | part(config, place, "prompts")
    if not all(text is None or isinstance(text, str) for text in prompts.values()):
        raise ConfigError(f"{place}: prompts must be strings")
    default = config.get("default_prompt_name")
    if default is not None and default not in list(prompts):
        raise ConfigError(f"{place}: default_prompt_name {default!r} is none of prompts")
    return ModelSettings(
        kind,
        {name: text or "" for name, text in prompts.items()},
        default,
        count(config, "truncate_dim", place),
        count(config, "max_active_dims", place),
        _name(config, "activation_fn", place),
    )


def _name(config: Mapping[str, Any], key: str, place: str) -> str | None:
    found = config.get(key)
    if not isinstance(found, str | None):
        raise ConfigError(f"{place}: {key} must be a name, got {found!r}")
    return found


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
