"""Random models on disk whose texts keep more than keys and values: state spaces, convolutions, hybrids."""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Lfm2Config, Mamba2Config, Qwen3NextConfig
from transformers.configuration_utils import PreTrainedConfig

from bench.engines.llama import SEED, word_tokenizer
from bench.engines.workload import VOCABULARY

NO_ENDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}


def _mamba2() -> PreTrainedConfig:
    return Mamba2Config(
        vocab_size=VOCABULARY,
        hidden_size=512,
        num_hidden_layers=12,
        num_heads=16,
        head_dim=64,
        state_size=128,
        n_groups=1,
        initializer_range=0.05,
        **NO_ENDS,
    )


def _lfm2() -> PreTrainedConfig:
    return Lfm2Config(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=2048,
        block_auto_adjust_ff_dim=False,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        layer_types=["conv", "conv", "full_attention", "conv"] * 2,
        max_position_embeddings=2048,
        initializer_range=0.05,
        **NO_ENDS,
    )


def _qwen3_next() -> PreTrainedConfig:
    return Qwen3NextConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=64,
        linear_num_key_heads=4,
        linear_num_value_heads=8,
        linear_key_head_dim=64,
        linear_value_head_dim=64,
        num_experts=16,
        num_experts_per_tok=4,
        moe_intermediate_size=128,
        shared_expert_intermediate_size=256,
        max_position_embeddings=2048,
        initializer_range=0.05,
        **NO_ENDS,
    )


FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "Mamba2": _mamba2,
    "LFM2": _lfm2,
    "Qwen3-Next": _qwen3_next,
}


def save_family(name: str, folder: Path) -> float:
    """Write a model directory; returns its parameters in millions. No token ends a text."""
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(FAMILIES[name](), dtype=torch.float32)
    model.save_pretrained(folder)
    word_tokenizer(VOCABULARY).save_pretrained(folder)
    parameters: int = model.num_parameters()
    return parameters / 1e6
