"""How a directory says that token vectors become one vector: sentence-transformers' file layout.

https://sbert.net/docs/package_reference/sentence_transformer/models.html
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shared.errors import ConfigError
from workers.engines.local_model import check_directory, read_json

Pooling = Literal["mean", "cls"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """`root` holds the transformer; `max_tokens` is what it was trained for, None when unsaid."""

    root: Path
    pooling: Pooling = "mean"
    normalize: bool = False
    max_tokens: int | None = None


def read_recipe(path: Path, where: str) -> Recipe:
    """The recipe of a model directory; a plain encoder's is the mean, not normalised.

    Raises `ConfigError` for a step that this engine does not know.
    """
    listing = path / "modules.json"
    if not listing.exists():
        return Recipe(path)
    try:
        modules = json.loads(listing.read_text("utf-8"))
        steps = {str(m["type"]).rsplit(".", 1)[-1]: path / str(m["path"]) for m in modules}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{where}: cannot read {listing}: {error!r}") from None
    unknown = sorted(set(steps) - {"Transformer", "Pooling", "Normalize"})
    if unknown or "Transformer" not in steps:
        raise ConfigError(
            f"{where}: {listing} must list Transformer, Pooling and Normalize and nothing else,"
            f" got {', '.join(steps)}"
        )
    root = steps["Transformer"]
    if not root.resolve().is_relative_to(path.resolve()):
        raise ConfigError(f"{where}: {listing} points outside of {path}")
    check_directory(root, where)
    pooling: Pooling = "mean"
    if "Pooling" in steps:
        pooling = _pooling(read_json(steps["Pooling"] / "config.json", where), where)
    max_tokens = read_json(root / "sentence_bert_config.json", where).get("max_seq_length")
    return Recipe(root, pooling, "Normalize" in steps, max_tokens)


def _pooling(config: dict[str, Any], where: str) -> Pooling:
    flags = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
    }
    named = config.get("pooling_mode")
    wanted = [named] if named else []
    wanted += [
        flags.get(key, key)
        for key, value in config.items()
        if key.startswith("pooling_mode_") and value is True
    ]
    match wanted:
        case [] | ["mean"]:
            return "mean"
        case ["cls"]:
            return "cls"
        case _:
            raise ConfigError(f"{where}: pooling by {wanted!r} is not supported, only mean or cls")
