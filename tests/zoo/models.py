"""Tiny random models of every architecture that transformers brings and people run, made in memory.

A model is a configuration class and what differs from sizes that all share. Each token of the zoo's
tokenizer is a word of its own, so that equal texts are equal tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 96
SPREAD = 0.35
"""Standard deviation of the random weights: logits must differ for texts to differ."""
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": 64,
    "d_model": 32,
    "n_layers": 2,
    "n_heads": 4,
    "ffn_dim": 48,
    "max_position_embeddings": 256,
    "n_positions": 256,
    "max_seq_len": 256,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "n_routed_experts": 4,
}
"""Under every name that configurations have for them."""
MLA: dict[str, Any] = {
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "head_dim": 8,
    "num_key_value_heads": 4,
}
"""Attention over a compressed cache, as DeepSeek's."""


@dataclass(frozen=True, slots=True)
class Model:
    """`type` is the `model_type` of its configuration; `sizes` that it is not to get; the rest its own."""

    type: str
    own: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def make(self) -> Any:
        """A model in eval mode, the same each time."""
        config_class = CONFIG_MAPPING[self.type]
        known = config_class()
        sizes = {n: v for n, v in SIZES.items() if n not in self.without and hasattr(known, n)}
        config = config_class(**(sizes | dict(self.own)))
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for tensor in model.parameters():
                if tensor.dim() > 1:
                    tensor.normal_(
                        0.0, SPREAD / max(1.0, tensor.shape[-1] / 32), generator=generator
                    )
        return model


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Words w0 to w95, nothing else."""
    words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(VOCABULARY)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.decoder = decoders.Sequence([decoders.Replace("w", " w"), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=words)
