"""Reads how a directory wants pairs turned into scores, by a classifier or by a language model's yes and no.

The reference is sentence-transformers 6.2's CrossEncoder:
https://sbert.net/docs/package_reference/cross_encoder/cross_encoder.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers

from shared.domain.errors import ConfigError
from workers.engines.loading.local_model import check_directory, read_json
from workers.engines.sentence_layout.listing import list_modules
from workers.engines.sentence_layout.model_settings import ModelSettings, read_model_settings
from workers.engines.sentence_layout.transformer_settings import (
    TransformerSettings,
    check_keys,
    read_settings,
)

CLASSIFIER, LANGUAGE = "sequence-classification", "text-generation"
ENDINGS = {"ForSequenceClassification": CLASSIFIER, "ForCausalLM": LANGUAGE}
"""Architectures by the task that their head is for."""
YES, NO = "yes", "no"
"""The tokens whose logits a language model without a modules.json is judged by."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A language model's score: the logit of token `true`, less that of `false` where there is one.

    None for `true`: the tokens of yes and no.
    """

    true: int | None = None
    false: int | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """`root` holds the transformer. `verdict` is a language model's. `listed`: a modules.json says so."""

    root: Path
    settings: TransformerSettings = field(default_factory=TransformerSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    verdict: Verdict | None = None
    listed: bool = False


def read_recipe(path: Path, where: str) -> Recipe:
    """The recipe of a model directory. Raises `ConfigError` naming the file and key that is not supported."""
    model = read_model_settings(path, where, ("CrossEncoder",))
    if not (path / "modules.json").exists():
        check_directory(path, where)
        task = _task(path, where)
        return Recipe(path, read_settings(path, where, task), model, _verdict(task))
    first, *rest = list_modules(path, where)
    kinds = [first.kind, *(module.kind for module in rest)]
    if kinds not in (["Transformer"], ["Transformer", "LogitScore"]):
        raise ConfigError(
            f"{where}: {path / 'modules.json'} must list Transformer, of sequence classification, or"
            f" Transformer and LogitScore; got {', '.join(kinds)}"
        )
    check_directory(first.folder, where)
    if not rest:
        _refuse_headless(first.folder, where)
        settings = read_settings(first.folder, where, CLASSIFIER)
        return Recipe(first.folder, settings, model, listed=True)
    verdict = _read_verdict(rest[0].folder, where)
    settings = read_settings(first.folder, where, LANGUAGE)
    return Recipe(first.folder, settings, model, verdict, listed=True)


def activation_name(recipe: Recipe, config: Any) -> str | None:
    """The dotted name of the function that scores go through; None where the number of labels decides.

    The directory's settings count, then what older versions wrote into config.json.
    """
    inner: Mapping[str, Any] = getattr(config, "sentence_transformers", None) or {}
    older = getattr(config, "sbert_ce_default_activation_function", None)
    found = recipe.model.activation or inner.get("activation_fn") or older
    return None if found is None else str(found)


def _task(path: Path, where: str) -> str:
    """What a transformer's head is for, of one that no modules.json speaks of."""
    names = read_json(path / "config.json", where).get("architectures") or [""]
    architecture = str(names[0]) if isinstance(names, list) else ""
    for ending, task in ENDINGS.items():
        if architecture.endswith(ending):
            return task
    raise ConfigError(
        f"{where}: {path} is no ranker: config.json names {architecture or 'no architecture'}, which has no"
        f" head for scores ({', '.join(ENDINGS)}); for embeddings, serve it with engine: embedding"
    )


def _refuse_headless(folder: Path, where: str) -> None:
    if _task(folder, where) != CLASSIFIER:
        raise ConfigError(
            f"{where}: {folder} is a language model, and modules.json lists no LogitScore for it"
        )


def _verdict(task: str) -> Verdict | None:
    return Verdict() if task == LANGUAGE else None


def _read_verdict(folder: Path, where: str) -> Verdict:
    file = folder / "config.json"
    config, place = read_json(file, where), f"{where}: {file}"
    check_keys(config, ("true_token_id", "false_token_id", "module_input_name"), place)
    if config.get("module_input_name", "causal_logits") != "causal_logits":
        raise ConfigError(f"{place}: module_input_name must be causal_logits")
    true, false = config.get("true_token_id"), config.get("false_token_id")
    whole = (isinstance(true, int), isinstance(false, int | None))
    if not all(whole) or isinstance(true, bool) or isinstance(false, bool):
        raise ConfigError(f"{place}: true_token_id and false_token_id must be token ids")
    return Verdict(true, false)


def yes_and_no(tokenizer: Any, where: str) -> Verdict:
    """The verdict of a language model that names none, as the library takes it. Raises `ConfigError`."""
    true, false = (tokenizer.convert_tokens_to_ids(word) for word in (YES, NO))
    if true is None or false is None or tokenizer.unk_token_id in (true, false):
        raise ConfigError(
            f"{where}: a language model ranks by its tokens yes and no, and its tokenizer lacks them; add a"
            " modules.json with LogitScore"
        )
    return Verdict(int(true), int(false))


def auto_class(recipe: Recipe) -> Any:
    """The transformers Auto class of the model with its head."""
    if recipe.verdict is not None:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModelForSequenceClassification
