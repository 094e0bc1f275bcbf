"""Saved sentence-transformers layouts of tiny random models, one function each, by name.

A layout is made in a folder and served as it is. What it should compute is what the library computes that
defines the format.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dropout,
    Normalize,
    Pooling,
    Transformer,
)
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.tiny_models import CHAT_TEMPLATE

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jobs",
    "queue",
    "The",
    "Quick",
    "query",
    "passage",
    ":",
    "A",
]
STRUCTURED_TEMPLATE = (
    "{% for m in messages %}{{ m.role }} : {% for part in m.content %}{% if part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %} {% endfor %}{% if add_generation_prompt %}fox{% endif %}"
)
Make = Callable[[Path], None]
LAYOUTS: dict[str, Make] = {}


def layout(make: Make) -> Make:
    """Served as the library computes it."""
    LAYOUTS[make.__name__] = make
    return make


def words(*, lower: bool = False, typed: bool = True, **options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words between [CLS] and [SEP]."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lower)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = ["input_ids", *(["token_type_ids"] if typed else []), "attention_mask"]
    tokens = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=names,
        **{f"{name}_token": token for name, token in tokens.items()},
        **options,
    )


def save_transformer(
    folder: Path,
    config: str = "BertConfig",
    *,
    tokenizer: PreTrainedTokenizerFast | None = None,
    kind: Any = AutoModel,
    **options: Any,
) -> Path:
    """A random transformer with its tokenizer."""
    torch.manual_seed(0)
    kind.from_config(getattr(transformers, config)(**(SIZES | options))).save_pretrained(folder)
    (tokenizer or words()).save_pretrained(folder)
    return folder


def save_library(folder: Path, *more: Any, transformer: Path | None = None, **options: Any) -> Path:
    """What the library itself writes: transformer, pooling and `more`."""
    source = transformer or save_transformer(folder / "source")
    first = Transformer(str(source))
    pooling = more[0] if more and isinstance(more[0], Pooling) else Pooling(32)
    rest = [module for module in more if module is not pooling]
    model = SentenceTransformer(modules=[first, pooling, *rest], device="cpu", **options)
    model.save_pretrained(str(folder), create_model_card=False)
    shutil.rmtree(folder / "source", ignore_errors=True)
    return folder


def write(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), "utf-8")


def change(file: Path, **values: Any) -> None:
    """Change keys of a JSON object."""
    found = json.loads(file.read_text("utf-8")) if file.exists() else {}
    write(file, found | values)


def old_layout(
    folder: Path,
    *,
    own: str = "",
    settings: str = "sentence_bert_config.json",
    pooling: dict[str, Any] | None = None,
    config: str = "BertConfig",
    tokenizer: PreTrainedTokenizerFast | None = None,
    more: tuple[str, ...] = (),
    **values: Any,
) -> Path:
    """As versions before 5 wrote: `own` is the transformer's folder, `settings` its file with `values`."""
    save_transformer(folder / own, config, tokenizer=tokenizer)
    kinds = [("Transformer", own), ("Pooling", "1_Pooling")]
    kinds += [(kind, f"{number}_{kind}") for number, kind in enumerate(more, 2)]
    prefix = "sentence_transformers.models."
    write(
        folder / "modules.json",
        [
            {"idx": n, "name": str(n), "path": path, "type": prefix + kind}
            for n, (kind, path) in enumerate(kinds)
        ],
    )
    default = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    write(folder / "1_Pooling" / "config.json", default if pooling is None else pooling)
    write(folder / own / settings, {"max_seq_length": 48} | values)
    return folder


# What is served.


@layout
def plain_transformer(folder: Path) -> None:
    save_transformer(folder)


@layout
def saved_by_the_library(folder: Path) -> None:
    save_library(folder, Normalize())


@layout
def cls_pooling(folder: Path) -> None:
    save_library(folder, Pooling(32, "cls"))


@layout
def max_pooling(folder: Path) -> None:
    save_library(folder, Pooling(32, "max"))


@layout
def mean_sqrt_len_pooling(folder: Path) -> None:
    save_library(folder, Pooling(32, "mean_sqrt_len_tokens"), Normalize())


@layout
def weighted_mean_pooling(folder: Path) -> None:
    save_library(folder, Pooling(32, "weightedmean"))


@layout
def last_token_pooling(folder: Path) -> None:
    save_library(folder, Pooling(32, "lasttoken"))


@layout
def two_poolings_side_by_side(folder: Path) -> None:
    flags = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    old_layout(folder, pooling={"word_embedding_dimension": 32} | flags)


@layout
def no_pooling_mode_named(folder: Path) -> None:
    flags = {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": False}
    old_layout(folder, pooling={"word_embedding_dimension": 32} | flags)


@layout
def new_pooling_key_beside_old_ones(folder: Path) -> None:
    modes = {"pooling_mode": "cls", "pooling_mode_mean_tokens": True}
    old_layout(folder, pooling={"word_embedding_dimension": 32} | modes)


@layout
def dropout_before_normalize(folder: Path) -> None:
    save_library(folder, Dropout(0.5), Normalize())


@layout
def default_prompt(folder: Path) -> None:
    save_library(folder, prompts={"passage": "passage : "}, default_prompt_name="passage")


@layout
def prompts_without_a_default(folder: Path) -> None:
    save_library(folder, prompts={"passage": "passage : "})


@layout
def default_prompt_left_out_of_pooling(folder: Path) -> None:
    pooling = Pooling(32, "mean", include_prompt=False)
    save_library(folder, pooling, prompts={"q": "query :"}, default_prompt_name="q")


@layout
def prompt_left_out_of_weighted_and_cls_and_max_pooling(folder: Path) -> None:
    pooling = Pooling(32, ("cls", "max", "weightedmean"), include_prompt=False)
    save_library(folder, pooling, prompts={"q": "query :"}, default_prompt_name="q")


@layout
def truncated(folder: Path) -> None:
    save_library(folder, truncate_dim=12)


@layout
def truncated_after_normalize(folder: Path) -> None:
    save_library(folder, Normalize(), truncate_dim=12)


@layout
def lower_case(folder: Path) -> None:
    old_layout(folder, do_lower_case=True)


@layout
def lower_case_already(folder: Path) -> None:
    old_layout(folder, do_lower_case=True, tokenizer=words(lower=True))


@layout
def transformer_in_a_folder_of_its_own(folder: Path) -> None:
    old_layout(folder, own="0_Transformer", do_lower_case=True)
    write(folder / "config.json", {"__version__": "2.0.0"})


@layout
def roberta_settings(folder: Path) -> None:
    save = {"config": "RobertaConfig", "settings": "sentence_roberta_config.json"}
    old_layout(folder, do_lower_case=True, **save)


@layout
def xlm_roberta_settings(folder: Path) -> None:
    save = {"config": "XLMRobertaConfig", "settings": "sentence_xlm-roberta_config.json"}
    old_layout(folder, do_lower_case=True, **save)


@layout
def distilbert_settings(folder: Path) -> None:
    save = {"config": "DistilBertConfig", "settings": "sentence_distilbert_config.json"}
    old_layout(folder, tokenizer=words(typed=False), do_lower_case=True, **save)


@layout
def empty_settings_before_older_ones(folder: Path) -> None:
    old_layout(folder, do_lower_case=True, settings="sentence_albert_config.json")
    write(folder / "sentence_bert_config.json", {})


@layout
def options_that_change_no_vector(folder: Path) -> None:
    old_layout(
        folder,
        model_args={"attn_implementation": "eager", "add_pooling_layer": False},
        tokenizer_args={"padding_side": "left", "model_max_length": 40},
        config_args={"use_cache": False},
        unpad_inputs=False,
        processing_kwargs={"text": {"truncation": True, "padding": "longest"}},
    )
    change(folder / "config_sentence_transformers.json", similarity_fn_name="dot")


@layout
def tokenizer_that_pads_and_cuts(folder: Path) -> None:
    tokenizer = words(padding_side="left", truncation_side="left", model_max_length=40)
    tokenizer.backend_tokenizer.enable_padding(length=20, pad_token="[PAD]")
    tokenizer.backend_tokenizer.enable_truncation(6)
    save_transformer(folder, tokenizer=tokenizer)


@layout
def token_types_that_are_not_zero(folder: Path) -> None:
    tokenizer = words()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:1 $A:0 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    save_library(folder, transformer=save_transformer(folder / "source", tokenizer=tokenizer))


@layout
def decoder_without_a_chat_template(folder: Path) -> None:
    source = save_transformer(folder / "source", "LlamaConfig", tokenizer=words(typed=False))
    save_library(folder, Pooling(32, "lasttoken"), Normalize(), transformer=source)


@layout
def decoder_that_sees_both_ways(folder: Path) -> None:
    source = save_transformer(
        folder / "source", "LlamaConfig", tokenizer=words(typed=False), is_causal=False
    )
    save_library(folder, transformer=source)


@layout
def decoder_with_a_flat_chat_template(folder: Path) -> None:
    tokenizer = words(typed=False, chat_template=CHAT_TEMPLATE)
    source = save_transformer(folder / "source", "LlamaConfig", tokenizer=tokenizer)
    save_library(
        folder, Pooling(32, "lasttoken"), transformer=source, prompts={"q": "query :"},
        default_prompt_name="q",
    )  # fmt: skip


@layout
def decoder_with_a_structured_chat_template(folder: Path) -> None:
    tokenizer = words(typed=False, chat_template=STRUCTURED_TEMPLATE)
    source = save_transformer(folder / "source", "Qwen3Config", tokenizer=tokenizer, head_dim=16)
    save_library(folder, Pooling(32, "lasttoken"), transformer=source)
    change(
        folder / "sentence_bert_config.json",
        processing_kwargs={"chat_template": {"add_generation_prompt": True}},
    )


@layout
def chat_template_that_an_older_version_left_unused(folder: Path) -> None:
    tokenizer = words(typed=False, chat_template=CHAT_TEMPLATE)
    old_layout(folder, config="LlamaConfig", tokenizer=tokenizer)


@layout
def plain_causal_model(folder: Path) -> None:
    tokenizer = words(typed=False)
    save_transformer(folder, "LlamaConfig", tokenizer=tokenizer, kind=AutoModelForCausalLM)


@layout
def plain_causal_model_with_a_chat_template(folder: Path) -> None:
    tokenizer = words(typed=False, chat_template=CHAT_TEMPLATE)
    save_transformer(folder, "LlamaConfig", tokenizer=tokenizer, kind=AutoModelForCausalLM)


@layout
def long_rope(folder: Path) -> None:
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0, 8.0] * 4, "rope_theta": 10000.0}
    source = save_transformer(
        folder / "source",
        "Phi3Config",
        tokenizer=words(typed=False),
        original_max_position_embeddings=16,
        rope_parameters={"rope_type": "longrope", **factors},
    )
    save_library(folder, transformer=source)


@layout
def dynamic_ntk(folder: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    source = save_transformer(
        folder / "source",
        "LlamaConfig",
        tokenizer=words(typed=False),
        max_position_embeddings=16,
        rope_parameters=rope,
    )
    save_library(folder, transformer=source)
    change(folder / "sentence_bert_config.json", max_seq_length=60)


@layout
def older_names_of_layer_norm(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_library(folder)
    weights = load_file(folder / "model.safetensors")
    renamed = {
        "bert."
        + name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for name, tensor in weights.items()
        if "pooler" not in name
    }
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


@layout
def token_types_of_xlnet(folder: Path) -> None:
    tokenizer = words(padding_side="left")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 [SEP]:0 [CLS]:2", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(0)
    sizes = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, "initializer_range": 0.3}
    config = transformers.XLNetConfig(vocab_size=40, pad_token_id=0, **sizes)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@layout
def padding_that_stands_in_a_text(folder: Path) -> None:
    save_transformer(folder, "RobertaConfig")


@layout
def convolutions(folder: Path) -> None:
    save_transformer(folder, "ConvBertConfig", embedding_size=32)


@layout
def longformer(folder: Path) -> None:
    save_transformer(folder, "LongformerConfig", attention_window=[4, 4])
