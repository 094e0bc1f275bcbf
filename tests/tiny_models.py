"""Random models and small tokenizers, made on the spot: a model directory in half a second."""

import copy
import json
from collections.abc import Callable, Sequence
from functools import cache, wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from shared.domain.models.catalog import Batch, Limits, ModelSpec

END = "<|end|>"
CORPUS = [
    "The quick brown fox jumps over the lazy dog. ",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich – naïve café! ",
    "いろはにほへと ちりぬるを 👩‍👩‍👧 🎉🎉 ",
    "def main(argv: list[str]) -> int:\n    return 0\n\n",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
)
LLAMA: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 400,
    "max_position_embeddings": 256,
}
LONGROPE: dict[str, Any] = LLAMA | {
    "pad_token_id": 0,
    "original_max_position_embeddings": 24,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [8.0, 6.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.2],
        "original_max_position_embeddings": 24,
    },
}
"""For a Phi-3 whose texts are long ones beyond 24 tokens."""
WIDE_HEADS: dict[str, Any] = LLAMA | {"num_attention_heads": 2, "num_key_value_heads": 1}
"""Heads of 32, the smallest that vLLM serves on a CPU."""
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "packed": ("LlamaConfig", LLAMA),
    "stacked": ("Lfm2Config", LLAMA | {"layer_types": ["conv", "full_attention"]}),
    "static": ("DogeConfig", LLAMA),
}
"""A small model that runs in each way that `GET /v1/models` names, and its sizes."""


def made_once(
    make: Callable[[], PreTrainedTokenizerFast],
) -> Callable[[], PreTrainedTokenizerFast]:
    """A tokenizer that is trained once; each caller has a copy, and what it changes stays there."""
    trained = cache(make)
    return wraps(make)(lambda: copy.deepcopy(trained()))


@made_once
def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """As GPT-2 and Llama 3: every token is a run of bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS * 3,
        trainers.BpeTrainer(
            vocab_size=400,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[END],
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


@made_once
def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2: spaces are part of tokens, the first is dropped, unknown letters fall back to bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    tokenizer.train_from_iterator(
        CORPUS[:1] * 5,
        trainers.BpeTrainer(
            vocab_size=120, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False
        ),
    )
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    state["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@made_once
def wordpiece_tokenizer() -> PreTrainedTokenizerFast:
    """As BERT."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        CORPUS * 3,
        trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def save_causal(
    folder: Path,
    config: str = "LlamaConfig",
    *,
    tokenizer: PreTrainedTokenizerFast | None = None,
    **options: Any,
) -> Path:
    """A random causal language model whose logits differ enough for texts to differ."""
    torch.manual_seed(0)
    made = getattr(transformers, config)(**options, bos_token_id=None, eos_token_id=None)
    made.initializer_range = 0.1
    AutoModelForCausalLM.from_config(made).save_pretrained(folder)
    (tokenizer or byte_level_tokenizer()).save_pretrained(folder)
    return folder


def save_scripted(
    folder: Path, tokenizer: PreTrainedTokenizerFast, script: Sequence[int], context: int = 128
) -> Path:
    """A model that says one token after the other of `script`, whatever stands before the last one.

    No token may stand in it twice. Attention and MLP are switched off, so the last token alone counts.
    """
    vocabulary = 8 * (max(len(tokenizer), *script) // 8 + 1)
    config = transformers.LlamaConfig(
        **LLAMA | {"vocab_size": vocabulary, "hidden_size": vocabulary, "num_hidden_layers": 1},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    config.max_position_embeddings = context
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(vocabulary))
        model.lm_head.weight.normal_(0, 0.01)
        for before, after in pairwise(script):
            model.lm_head.weight[after, before] = 5.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_encoder(
    folder: Path,
    config: str = "BertConfig",
    *,
    pooling: str | None = None,
    normalize: bool = False,
    kind: Any = AutoModel,
    **options: Any,
) -> Path:
    """A random encoder; with `pooling`, laid out as sentence-transformers does."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 300,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
    }
    made = getattr(transformers, config)(**(sizes | options))
    made.initializer_range = 0.1
    kind.from_config(made).save_pretrained(folder)
    wordpiece_tokenizer().save_pretrained(folder)
    if pooling is not None:
        _write(folder / "1_Pooling" / "config.json", {f"pooling_mode_{pooling}": True})
        steps = [("Transformer", ""), ("Pooling", "1_Pooling")]
        steps += [("Normalize", "2_Normalize")] if normalize else []
        prefix = "sentence_transformers.models."
        modules = [{"idx": i, "type": prefix + t, "path": p} for i, (t, p) in enumerate(steps)]
        _write(folder / "modules.json", modules)
    return folder


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def text_spec(path: Path, **options: Any) -> ModelSpec:
    """A catalogue entry for a tiny causal model, on one thread."""
    fields: dict[str, Any] = {
        "batch": Batch(max_size=4, token_budget=24),
        "limits": Limits(max_prompt_tokens=96, max_new_tokens=64),
        "threads": 1,
        "device": "cpu",
    }
    engine = options.pop("engine", "text-generation")
    return ModelSpec(name="tiny", engine=engine, path=path, **(fields | options))


def embedding_spec(path: Path, **options: Any) -> ModelSpec:
    """A catalogue entry for a tiny encoder, on one thread."""
    fields: dict[str, Any] = {
        "batch": Batch(max_size=4, token_budget=48),
        "limits": Limits(max_prompt_tokens=64),
        "threads": 1,
        "device": "cpu",
    }
    return ModelSpec(name="tiny-bert", engine="embedding", path=path, **(fields | options))
