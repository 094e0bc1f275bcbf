"""A random Llama of 24 million parameters on disk, with a tokenizer whose words are its tokens."""

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bench.engines.workload import VOCABULARY

SEED = 0


def save_llama(folder: Path) -> Path:
    """Write a model directory. No token ends a text: every answer is as long as was asked."""
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        tie_word_embeddings=False,
        # Large enough for the likeliest token to stand out.
        initializer_range=0.05,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    word_tokenizer(VOCABULARY).save_pretrained(folder)
    return folder


def as_text(tokens: Iterable[int]) -> str:
    """The prompt that the tokenizer turns into exactly these tokens."""
    return " ".join(map(_word, tokens))


def word_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of `size` words, each of them a token."""
    vocabulary = {_word(token): token for token in range(size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_word(0)))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _word(token: int) -> str:
    return f"t{token}"
