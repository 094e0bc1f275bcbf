"""Is it a causal language model by its name? Asked of config.json, before anything is loaded."""

from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from shared.domain.errors import ConfigError
from workers.engines.loading.local_model import read_json
from workers.engines.loading.text_part import TextPart, several_senses

CAUSAL = (
    "ForCausalLM",
    "LMHeadModel",
    "ForConditionalGeneration",
    "WithLMHead",
    "GenerationDecoder",
)
"""How names of architectures end that have a head to make text with."""


def auto_model_of(path: Path, where: str) -> Any:
    """What loads the model: transformers' Auto class, or `TextPart` for one that also sees or hears.

    Raises `ConfigError` for a model of another family, naming it.
    """
    config = read_json(path / "config.json", where)
    kind = str(config.get("model_type"))
    names = [str(name) for name in config.get("architectures") or []]
    name = names[0] if names else kind
    try:
        known = transformers.AutoConfig.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False
        )
    except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: cannot load {path}: {error}") from error
    if getattr(known, "is_encoder_decoder", False):
        raise ConfigError(
            f"{where}: {name} is an encoder-decoder; text-generation serves causal language models"
        )
    both = several_senses(known)
    if both is not None and (
        name == both or known.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    ):
        return TextPart(both)
    if known.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ConfigError(f"{where}: {name} ({kind}) is no causal language model of transformers")
    own = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[known.model_type]
    if names and not any(each == own or each.endswith(CAUSAL) for each in names):
        raise ConfigError(
            f"{where}: {name} is no causal language model: its weights are made for something else"
        )
    return transformers.AutoModelForCausalLM
