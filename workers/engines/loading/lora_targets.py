"""Which layers of a base model an adapter changes, by what its configuration says."""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from shared.domain.errors import ConfigError

ALL = "all-linear"


def targets(model: Any, config: Mapping[str, Any], where: str) -> set[str]:
    """The names of all linear layers that the adapter must have matrices for.

    Raises `ConfigError` where it names the head or embeddings, which are no layers of the decoder.
    """
    wanted = config.get("target_modules")
    if not wanted:
        raise ConfigError(f"{where}: its target_modules do not say which layers it changes")
    ends = {id(model.get_output_embeddings()), id(model.get_input_embeddings())}
    found = set()
    for name, module in model.named_modules():
        if not name or not any(_chosen(each, wanted, config) for each in _spellings(name)):
            continue
        if id(module) in ends:
            if wanted == ALL:
                continue
            raise ConfigError(
                f"{where}: it changes {name}; only linear layers of the decoder are served, merge it into"
                " its base model"
            )
        if isinstance(module, nn.Linear | Conv1D):
            found.add(name)
        elif wanted != ALL and not isinstance(wanted, str):
            kind = type(module).__name__
            raise ConfigError(
                f"{where}: it changes {name}, a {kind}; only linear layers are served"
            )
    return found


def _spellings(name: str) -> tuple[str, ...]:
    """A layer's name here, and in a model of several senses of which this is the language part."""
    return (name, name.replace("model.", "model.language_model.", 1))


def _chosen(name: str, wanted: Any, config: Mapping[str, Any]) -> bool:
    excluded = config.get("exclude_modules")
    if excluded and _matches(name, excluded):
        return False
    return _matches(name, wanted) and _in_layers(name, config)


def _matches(name: str, wanted: Any) -> bool:
    if wanted == ALL:
        return True
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(name == end or name.endswith(f".{end}") for end in wanted)


def _in_layers(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a layer's number is among those that are to be changed; all are where none is named."""
    numbers = config.get("layers_to_transform")
    if numbers is None or numbers == []:
        return True
    patterns = config.get("layers_pattern") or [r"[^.]*"]
    patterns = [patterns] if isinstance(patterns, str) else patterns
    for pattern in patterns:
        found = re.match(rf".*\.{pattern}\.(\d+)\.", name)
        if found:
            return int(found[1]) in ([numbers] if isinstance(numbers, int) else numbers)
    return False
