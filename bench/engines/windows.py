"""Models whose layers look back over a window alone: packed, beside one by one and an earlier build."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, GptOssConfig

from bench.engines.earlier import Model, beside_earlier, earlier_build
from bench.engines.llama import SEED, word_tokenizer
from bench.engines.plan import Plan
from bench.engines.result import Part
from bench.engines.workload import VOCABULARY, demands

TEXTS = 16
GOAL = "≥ 3"
WINDOW = 128
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "sliding_window": WINDOW,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
    # Large enough for the likeliest token to stand out.
    "initializer_range": 0.05,
}
KINDS: dict[str, Any] = {
    "Gemma-3-like": lambda: Gemma3TextConfig(
        **SIZES, intermediate_size=1408, num_hidden_layers=6, query_pre_attn_scalar=64
    ),
    "gpt-oss-like": lambda: GptOssConfig(
        **SIZES,
        intermediate_size=512,
        num_hidden_layers=6,
        num_local_experts=8,
        num_experts_per_tok=2,
    ),
}
"""Windows in five layers of six, and in every other one, with sinks and experts."""


def windowed(plan: Plan, scratch: Path) -> list[Part]:
    """A part for each kind."""
    asked = demands(TEXTS, most=plan.longest)
    with earlier_build(scratch / "earlier") as earlier:
        return [
            beside_earlier(_saved(kind, scratch / kind), asked, plan.rounds, earlier)
            for kind in KINDS
        ]


def _saved(kind: str, folder: Path) -> Model:
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_config(KINDS[kind]())
    model.save_pretrained(folder)
    word_tokenizer(VOCABULARY).save_pretrained(folder)
    return Model("windows", kind, folder, model.num_parameters() / 1e6, "packed", GOAL)
