"""Decides whether a directory's transformer makes embeddings, before any weight is read."""

from pathlib import Path
from typing import Any

import transformers

from shared.domain.errors import ConfigError

HEADS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForNextSentencePrediction",
)
"""Architectures whose training was for an answer of their own: rerankers, classifiers, taggers."""
ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
}
"""Models with a decoder whose encoder transformers has by itself, by model type."""
MEDIA = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
"""With one of these sentence-transformers reads texts by a processor for several media."""


def read_family(root: Path, where: str) -> Any:
    """The transformers configuration of an encoder of texts.

    Raises `ConfigError` for what makes no vectors of texts alone, with the name of what it is.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(
            str(root), local_files_only=True, trust_remote_code=False
        )
    except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: cannot load {root}: {error}") from error
    refusal = f"{where}: {root} is no encoder of texts"
    kind = config.model_type
    if config.is_encoder_decoder and encoder_class(config) is None:
        raise ConfigError(
            f"{refusal}: {kind} is an encoder with a decoder (is_encoder_decoder), of which only"
            f" {', '.join(ENCODERS)} have an encoder to themselves"
        )
    for part in ("vision_config", "audio_config"):
        if getattr(config, part, None) is not None:
            raise ConfigError(f"{refusal} alone: config.json has a {part}")
    media = [name for name in MEDIA if (root / name).exists()]
    if media:
        raise ConfigError(f"{refusal} alone: it has a {media[0]}")
    if kind == "big_bird" and config.attention_type == "block_sparse":
        raise ConfigError(
            f"{where}: {root / 'config.json'}: attention_type block_sparse is not supported: after one"
            " short text the model computes all others in another way; set it to original_full"
        )
    return config


def encoder_class(config: Any) -> Any:
    """The class of the encoder alone, of a kind that has a decoder, too; None for any other."""
    name = ENCODERS.get(config.model_type)
    return None if name is None else getattr(transformers, name)


def plain_pooling(config: Any, root: Path, where: str) -> tuple[str, ...]:
    """How sentence-transformers pools a transformer that no modules.json speaks of.

    Raises `ConfigError` for a model with a head for something else.
    """
    architecture = next(iter(config.architectures or ()), "")
    if architecture.endswith(HEADS):
        ranks = architecture.endswith("ForSequenceClassification")
        remedy = "; serve it with engine: ranking" if ranks else ""
        raise ConfigError(
            f"{where}: {root} is no embedding model: config.json names {architecture}, a model for answers"
            f" of its own{remedy}"
        )
    causal = architecture.endswith("ForCausalLM") and getattr(config, "is_causal", True)
    return ("lasttoken",) if causal else ("mean",)
