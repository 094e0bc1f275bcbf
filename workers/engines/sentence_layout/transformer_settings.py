"""Reads how texts become a transformer's input, from `sentence_bert_config.json` and its older names.

What is known to change no vector passes; what changes one is honoured or refused by name; so is what is not
known. Checked against sentence-transformers 6.2, `base/modules/transformer.py`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.domain.errors import ConfigError
from workers.engines.encoding.text_reader import ChatForm
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
CALL_OPTIONS = frozenset(
    ("padding", "truncation", "padding_side", "return_tensors", "verbose", "logits_to_keep")
)
"""Of a call of the tokenizer: its own length limit is honoured, nothing is padded or cut."""
PADDING = (None, True, False, "longest", "do_not_pad")
"""Others pad a text that is alone, which moves its positions when the padding stands on the left."""
FORMATS: dict[Any, bool | None] = {"structured": True, "flat": False, "auto": None, None: None}
_UNUSED = frozenset(("unpad_inputs", "backend", "cache_dir"))
_ABSENT = ("tokenizer_name_or_path",)
_OF_TASKS = ("query_length", "document_length", "query_expansion")
OUTPUTS = {
    "feature-extraction": ("last_hidden_state", "token_embeddings"),
    "fill-mask": ("logits", "token_embeddings"),
    "sequence-classification": ("logits", "scores"),
    "text-generation": ("logits", "causal_logits"),
}
"""What the transformer of each task gives, and the name under which the next module finds it."""
MAKES = {
    "sequence-classification": "makes scores and no embeddings; serve it with engine: ranking",
    "text-generation": "makes no embeddings; where it is a reranker, serve it with engine: ranking",
}
_KNOWN = _UNUSED.union(
    _ABSENT,
    _OF_TASKS,
    ("max_seq_length", "do_lower_case", "transformer_task", "modality_config"),
    ("module_output_name", "processing_kwargs", "model_args", "model_kwargs"),
    ("tokenizer_args", "processor_kwargs", "config_args", "config_kwargs"),
)


@dataclass(frozen=True, slots=True)
class Expansion:
    """A query is filled up with `token` to `length` tokens, as ColBERT does.

    `fixed`: and cut to it. `attend`: the other tokens look at those that were filled in. `token` None: the
    tokenizer's mask token, else its end token.
    """

    length: int
    fixed: bool = True
    attend: bool = False
    token: str | None = None


@dataclass(frozen=True, slots=True)
class TransformerSettings:
    """`max_tokens` overrides the tokenizer's own limit; None where the directory sets none.

    `lengths` are limits of their own by task. `output` is the field of the forward pass that is used.
    """

    max_tokens: int | None = None
    lower: bool = False
    chat: ChatForm | None = None
    lengths: Mapping[str, int] = field(default_factory=dict)
    expansion: Expansion | None = None
    output: str = "last_hidden_state"


def read_settings(root: Path, where: str, task: str = "feature-extraction") -> TransformerSettings:
    """The settings of the transformer in `root`, which must be for `task`, a key of `OUTPUTS`.

    Raises `ConfigError` naming file and key.
    """
    for name in FILES:
        found = read_json(root / name, where)
        if found:
            return _settings(found, f"{where}: {root / name}", task)
    return TransformerSettings(output=OUTPUTS[task][0])


def check_keys(config: Mapping[str, Any], known: Collection[str], place: str) -> None:
    """Raise `ConfigError` for keys that are not known; `place` says which file, or which part of one."""
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise ConfigError(f"{place}: not supported: {', '.join(unknown)}")


def _settings(config: dict[str, Any], place: str, task: str) -> TransformerSettings:
    check_keys(config, _KNOWN, place)
    for key in _ABSENT:
        if config.get(key) is not None:
            raise ConfigError(f"{place}: {key} is not supported, got {config[key]!r}")
    said = config.get("transformer_task", task)
    if said != task:
        why = MAKES.get(
            said if isinstance(said, str) else "", f"must be {task!r} for what follows it"
        )
        raise ConfigError(f"{place}: transformer_task {said!r} {why}")
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
    chat = _chat(config, template, place, OUTPUTS[task])
    if chat is not None:
        max_tokens = count(template, "max_length", place) or max_tokens
    named = {name: count(config, f"{name}_length", place) for name in ("query", "document")}
    return TransformerSettings(
        max_tokens,
        bool(config.get("do_lower_case")),
        chat,
        {name: length for name, length in named.items() if length is not None},
        _expansion(config, place),
        OUTPUTS[task][0],
    )


def _expansion(config: Mapping[str, Any], place: str) -> Expansion | None:
    if config.get("query_expansion") is None:
        return None
    found = part(config, place, "query_expansion")
    place = f"{place}: query_expansion"
    check_keys(found, ("strategy", "length", "attend", "token"), place)
    length, token = count(found, "length", place), found.get("token")
    strategy, attend = found.get("strategy"), found.get("attend", False)
    if length is None or strategy not in ("fixed", "min"):
        raise ConfigError(f"{place}: needs a length, and fixed or min as its strategy")
    if not isinstance(attend, bool) or not isinstance(token, str | None):
        raise ConfigError(f"{place}: attend must be true or false, token a text")
    return Expansion(length, strategy == "fixed", attend, token)


def _chat(
    config: Mapping[str, Any], template: Mapping[str, Any], place: str, outputs: tuple[str, str]
) -> ChatForm | None:
    output, name = outputs
    if config.get("module_output_name", name) != name:
        raise ConfigError(f"{place}: module_output_name must be {name}")
    if "modality_config" not in config:
        return None
    modalities = part(config, place, "modality_config")
    check_keys(modalities, ("text", "message"), f"{place}: modality_config")
    if not modalities:
        raise ConfigError(f"{place}: modality_config names neither text nor message")
    for modality in modalities:
        route = part(modalities, place, modality)
        wanted = (route.get("method"), route.get("method_output_name"))
        if wanted not in (("forward", output), ("forward", [output])):
            raise ConfigError(f"{place}: modality_config.{modality} must be forward, {output}")
        check_keys(
            route,
            ("method", "method_output_name", "format"),
            f"{place}: modality_config.{modality}",
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
