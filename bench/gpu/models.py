"""Llama-shaped models with random weights, made on the device: no file is read or written."""

from typing import Any

import msgspec
import torch
from transformers import LlamaConfig, LlamaForCausalLM

CONTEXT = 4096
SEED = 0


class Size(msgspec.Struct, frozen=True):
    """A Llama's dimensions. `tied`: one matrix for the first and the last layer."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    tied: bool

    def kv_bytes(self, dtype: torch.dtype) -> int:
        """Keys and values of one token, in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_width * dtype.itemsize


SMALL = Size("0.6B", 1024, 3072, 28, 16, 8, 128, 151_936, tied=True)
LARGE = Size("8B", 4096, 14_336, 32, 32, 8, 128, 128_256, tied=False)
TINY = Size("tiny", 64, 128, 2, 4, 2, 16, 512, tied=False)


def make(size: Size, device: torch.device, dtype: torch.dtype) -> Any:
    """The model in eval mode. No token ends a text: every answer is as long as was asked."""
    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_width,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=size.tied,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        dtype=dtype,
    )
    torch.manual_seed(SEED)
    with torch.device(device):
        model = LlamaForCausalLM._from_config(config, dtype=dtype)
    model.generation_config.eos_token_id = None
    return model.to(device).eval()


def bytes_read(model: Any, size: Size) -> int:
    """Weights that a decode step reads: all but the rows of an untied first layer."""
    total = int(sum(weight.numel() * weight.itemsize for weight in model.parameters()))
    first = model.get_input_embeddings().weight
    return total if size.tied else total - int(first.numel() * first.itemsize)
