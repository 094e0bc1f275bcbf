"""Runs transformers' own forward pass over one text with its own cache, as `generate` does."""

import inspect
from typing import Any

import torch
from transformers import DynamicCache


def empty_state(model: Any) -> dict[str, Any]:
    """What `generate` hands to the first forward pass: a cache under the name that the model has for it."""
    state: dict[str, Any] = {"use_cache": True}
    if model._supports_default_dynamic_cache():
        state["cache_params" if _is_mamba(model) else "past_key_values"] = DynamicCache(
            config=model.config.get_text_config(decoder=True)
        )
    return state


def read(
    model: Any, state: dict[str, Any], ids: torch.Tensor, known: int, count: int
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Read the tokens [rows, length] from `known` on, which `state` does not know yet.

    Returns the logits of the last `count` of them, float32 [rows, count, vocabulary], and the state to go on
    with.
    """
    inputs = model.prepare_inputs_for_generation(
        ids,
        next_sequence_length=ids.shape[1] - known if known else None,
        is_first_iteration=not known,
        attention_mask=torch.ones_like(ids),
        **state,
    )
    output = model(**{**inputs, **kept(model, count)}, return_dict=True)
    after = model._update_model_kwargs_for_generation(output, state)
    after = {name: value for name, value in after.items() if name != "attention_mask"}
    return output.logits[:, -count:].float(), after


def kept(model: Any, count: int) -> dict[str, int]:
    """Logits are as wide as the vocabulary: those of a long prompt are not made."""
    return {"logits_to_keep": count} if takes(model, "logits_to_keep") else {}


def takes(model: Any, name: str) -> bool:
    """Whether a model's forward pass has an argument of that name."""
    return name in inspect.signature(model.forward).parameters


def _is_mamba(model: Any) -> bool:
    """Whether a model calls its cache `cache_params`, told by its class' name as `generate` does."""
    return "mamba" in type(model).__name__.lower()
