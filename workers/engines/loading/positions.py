"""Finds out for how many tokens a model really has positions."""

import math
from typing import Any

from torch import nn

EXTENDED = frozenset({"yarn", "dynamic"})
"""Kinds of rotary positions whose factor stretches what `max_position_embeddings` says."""

TABLES = ("position", "wpe")
ELSEWHERE = ("vision", "visual", "image", "audio", "speech")
"""Parts of a model whose positions are none of its text."""


def longest_text(model: Any) -> int | None:
    """Tokens of the longest text, None for a model without a bound.

    What the configuration says, stretched by YaRN or dynamic NTK, and no more than a table of learned
    positions has rows for.
    """
    config = model.config.get_text_config()
    said = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    bounds = [_stretched(config, said)] if isinstance(said, int) and said > 0 else []
    return min([*bounds, *_tables(model)], default=None)


def rope_parts(config: Any) -> list[dict[str, Any]]:
    """The rotary parameters of a text configuration: one set, or one for each kind of layer."""
    rope = getattr(config, "rope_parameters", None)
    if not isinstance(rope, dict):
        return []
    nested = [value for value in rope.values() if isinstance(value, dict)]
    return nested or [rope]


def rope_window(config: Any, part: dict[str, Any]) -> int | None:
    """Up to how many tokens positions are the same in every text; None where they always are."""
    match part.get("rope_type"):
        case "longrope":
            first = part.get("original_max_position_embeddings")
            return int(first or config.max_position_embeddings)
        case "dynamic":
            return int(config.max_position_embeddings)
        case _:
            return None


def _stretched(config: Any, said: int) -> int:
    """`factor` multiplies the length of the first training, which may be what is said already."""
    reach = said
    for part in rope_parts(config):
        factor = part.get("factor")
        if part.get("rope_type") in EXTENDED and isinstance(factor, int | float):
            first = said
            if part["rope_type"] == "yarn":
                first = int(part.get("original_max_position_embeddings") or said)
            reach = max(reach, math.floor(first * factor))
    return reach


def _tables(model: Any) -> list[int]:
    """Usable rows of every table of learned positions.

    OPT and its kin leave the first rows empty (`offset`), RoBERTa begins behind the padding id.
    """
    found = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.Embedding):
            continue
        path, _, last = name.rpartition(".")
        if not any(word in last for word in TABLES) or any(word in path for word in ELSEWHERE):
            continue
        unused = getattr(module, "offset", None)
        if unused is None:
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
        found.append(module.num_embeddings - int(unused))
    return found
