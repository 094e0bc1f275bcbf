"""Reads how texts become a transformer's input, from `sentence_bert_config.json` and its older names.

What is known to change no vector passes; what changes one is honoured or refused by name; so is what is not
known. Checked against sentence-transformers 6.2, `base/modules/transformer.py`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.domain.errors import ConfigError
from workers.engines.embedding.sentence_text import ChatForm
from workers.engines.loading.local_model import read_json

FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
"""The first that is there and not empty counts."""

LOADING = frozenset(
    ("trust_remote_code", "local_files_only", "token", "revision", "cache_dir", "subfolder")
)
"""Where files come from: here, from the directory alone."""
MODEL_OPTIONS = LOADING | {
    "dtype",
    "torch_dtype",
    "attn_implementation",
    "add_pooling_layer",
    "low_cpu_mem_usage",
    "use_safetensors",
    "device_map",
}
"""The catalogue settles number format and device; the rest changes no token's vector."""
TOKENIZER_OPTIONS = LOADING | {"padding_side", "truncation_side", "use_fast"}
"""No text is padded or cut where that could be seen."""
CONFIG_OPTIONS = LOADING | {"use_cache"}
CALL_OPTIONS = frozenset(("padding", "truncation", "padding_side", "return_tensors", "verbose"))
"""Of a call of the tokenizer: its own length limit is honoured, nothing is padded or cut."""
PADDING = (None, True, False, "longest", "do_not_pad")
"""Others pad a text that is alone, which moves its positions when the padding stands on the left."""
FORMATS: dict[Any, bool | None] = {"structured": True, "flat": False, "auto": None, None: None}
_UNUSED = frozenset(("unpad_inputs", "backend", "cache_dir"))
_ABSENT = ("tokenizer_name_or_path", "query_length", "document_length", "query_expansion")
_KNOWN = _UNUSED.union(
    _ABSENT,
    ("max_seq_length", "do_lower_case", "transformer_task", "modality_config"),
    ("module_output_name", "processing_kwargs", "model_args", "model_kwargs"),
    ("tokenizer_args", "processor_kwargs", "config_args", "config_kwargs"),
)


@dataclass(frozen=True, slots=True)
class TransformerSettings:
    """`max_tokens` overrides the tokenizer's own limit; None where the directory sets none."""

    max_tokens: int | None = None
    lower: bool = False
    chat: ChatForm | None = None


def read_settings(root: Path, where: str) -> TransformerSettings:
    """The settings of the transformer in `root`. Raises `ConfigError` naming file and key."""
    for name in FILES:
        found = read_json(root / name, where)
        if found:
            return _settings(found, f"{where}: {root / name}")
    return TransformerSettings()


def check_keys(config: Mapping[str, Any], known: Collection[str], place: str) -> None:
    """Raise `ConfigError` for keys that are not known; `place` says which file, or which part of one."""
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise ConfigError(f"{place}: not supported: {', '.join(unknown)}")


def _settings(config: dict[str, Any], place: str) -> TransformerSettings:
    check_keys(config, _KNOWN, place)
    for key in _ABSENT:
        if config.get(key) is not None:
            raise ConfigError(f"{place}: {key} is not supported, got {config[key]!r}")
    task = config.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise ConfigError(f"{place}: transformer_task {task!r} makes no embeddings")
    check_keys(
        part(config, place, "model_args", "model_kwargs"), MODEL_OPTIONS, f"{place}: model_args"
    )
    check_keys(
        part(config, place, "config_args", "config_kwargs"), CONFIG_OPTIONS, f"{place}: config_args"
    )
    tokenizer = part(config, place, "tokenizer_args", "processor_kwargs")
    check_keys(tokenizer, TOKENIZER_OPTIONS | {"model_max_length"}, f"{place}: tokenizer_args")
    processing = part(config, place, "processing_kwargs")
    check_keys(
        processing,
        ("common", "text", "chat_template", "audio", "image", "video"),
        f"{place}: processing_kwargs",
    )
    template = part(processing, place, "chat_template")
    # The last one that names a length counts.
    max_tokens = count(config, "max_seq_length", place)
    max_tokens = count(tokenizer, "model_max_length", place) or max_tokens
    for name in ("text", "common", "chat_template"):
        if part(processing, place, name).get("padding") not in PADDING:
            raise ConfigError(f"{place}: processing_kwargs.{name}.padding is not supported")
    for name in ("text", "common"):
        call = part(processing, place, name)
        check_keys(call, CALL_OPTIONS | {"max_length"}, f"{place}: processing_kwargs.{name}")
        max_tokens = count(call, "max_length", place) or max_tokens
    chat = _chat(config, template, place)
    if chat is not None:
        max_tokens = count(template, "max_length", place) or max_tokens
    return TransformerSettings(max_tokens, bool(config.get("do_lower_case")), chat)


def _chat(config: Mapping[str, Any], template: Mapping[str, Any], place: str) -> ChatForm | None:
    if config.get("module_output_name", "token_embeddings") != "token_embeddings":
        raise ConfigError(f"{place}: module_output_name must be token_embeddings")
    if "modality_config" not in config:
        return None
    modalities = part(config, place, "modality_config")
    check_keys(modalities, ("text", "message"), f"{place}: modality_config")
    if not modalities:
        raise ConfigError(f"{place}: modality_config names neither text nor message")
    for name in modalities:
        route = part(modalities, place, name)
        wanted = (route.get("method"), route.get("method_output_name"))
        if wanted not in (("forward", "last_hidden_state"), ("forward", ["last_hidden_state"])):
            raise ConfigError(f"{place}: modality_config.{name} must be forward, last_hidden_state")
        check_keys(
            route, ("method", "method_output_name", "format"), f"{place}: modality_config.{name}"
        )
    if "message" not in modalities:
        return None
    form = modalities["message"].get("format")
    if not isinstance(form, str | None) or form not in FORMATS:
        raise ConfigError(f"{place}: modality_config.message.format {form!r} is not known")
    unseen = CALL_OPTIONS | {"max_length", "restore_suffix"}
    return ChatForm(FORMATS[form], {k: v for k, v in template.items() if k not in unseen})


def part(config: Mapping[str, Any], place: str, *names: str) -> dict[str, Any]:
    """The object under the first of `names` that is there, {} when none is or it is null."""
    found = next((config[name] for name in names if name in config), None)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"{place}: {names[0]} must be an object")
    return found


def count(config: Mapping[str, Any], key: str, place: str) -> int | None:
    """A whole number of at least 1, None when there is none."""
    found = config.get(key)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise ConfigError(f"{place}: {key} must be a whole number from 1, got {found!r}")
    return found
