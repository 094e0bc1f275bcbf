"""The language part of a model of several senses: vision and audio towers are neither made nor read.

The class stays transformers' own, so names of weights, positions and `generate` are its own too. What stands
beside the way to the decoder is dropped as soon as the model is made, before there is memory for it.
"""

import re
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.utils import logging

from shared.domain.errors import ConfigError


def several_senses(config: Any) -> str | None:
    """The class for texts and images that a configuration asks for, by its name; None where there is none."""
    if not isinstance(getattr(config, "text_config", None), transformers.PretrainedConfig):
        return None
    name = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(config.model_type)
    return name if isinstance(name, str) else None


class TextPart:
    """Makes and loads the language part of one class, as an Auto class of transformers does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._class = _without_other_senses(getattr(transformers, name))

    def from_pretrained(self, path: str, **options: Any) -> Any:
        """What the class itself gives back: model and loading report, if that is wanted."""
        return self._class.from_pretrained(path, **options)

    def check(self, model: Any, where: str) -> None:
        """Raise `ConfigError` for a model that cannot do without what was left out."""
        ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
        try:
            model(input_ids=ids, use_cache=False)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ConfigError(
                f"{where}: {self.name} cannot run on texts alone ({error}); take a checkpoint of its"
                " language model"
            ) from error

    def from_config(self, config: Any, **options: Any) -> Any:
        return self._class._from_config(config, **options)


def _without_other_senses(whole: Any) -> Any:
    def make(self: Any, config: Any, *args: Any, **options: Any) -> None:
        whole.__init__(self, config, *args, **options)
        known = self._keys_to_ignore_on_load_unexpected or ()
        left_out = {f"^{re.escape(name)}" for name in _drop_other_senses(self)}
        self._keys_to_ignore_on_load_unexpected = {*known, *left_out}

    def set_attention(self: Any, *args: Any, **options: Any) -> None:
        # It warns of every part that is not there.
        before = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            whole.set_attn_implementation(self, *args, **options)
        finally:
            logging.set_verbosity(before)

    members = {"__init__": make, "set_attn_implementation": set_attention}
    return type(whole.__name__, (whole,), {**members, "__module__": whole.__module__})


def _drop_other_senses(model: Any) -> list[str]:
    """Drop all modules that a text does not pass. Returns the beginnings of their weights' names."""
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    needed = {id(decoder), id(head), id(model.get_input_embeddings())}
    left_out: list[str] = []

    def visit(module: nn.Module, path: str) -> None:
        for name, child in list(module._modules.items()):
            if child is None or id(child) in needed:
                continue
            inside = f"{path}{name}."
            if any(id(each) in needed for each in child.modules()):
                visit(child, inside)
            elif next(child.parameters(), None) is not None:
                module._modules[name] = None
                left_out.append(inside)

    visit(model, "")
    return left_out
