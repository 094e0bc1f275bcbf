"""Models whose layers look back over a window alone: in packed steps, and one text after the other."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, GptOssConfig

from bench.engines.generating import Packed
from bench.engines.llama import SEED, word_tokenizer
from bench.engines.plan import Plan
from bench.engines.result import Alike, Part, Ratio, Series, common, same
from bench.engines.workload import VOCABULARY, demands
from workers.engines.text_generation.forward.static import StaticRunner

REQUESTS = 16
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


def save(kind: str, folder: Path) -> Path:
    """Write a model directory."""
    torch.manual_seed(SEED)
    AutoModelForCausalLM.from_config(KINDS[kind]()).save_pretrained(folder)
    word_tokenizer(VOCABULARY).save_pretrained(folder)
    return folder


class Windowed(Packed):
    """This project's engine; with `alone`, texts take turns, as before such layers could be packed."""

    def __init__(self, folder: Path, *, alone: bool) -> None:
        super().__init__(folder, REQUESTS)
        self.name = "one text after the other" if alone else "packed"
        if alone:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            self._engine._runner = StaticRunner(model, torch.device("cpu"))


def windowed(plan: Plan, scratch: Path) -> Part:
    """Layers with windows, packed and as before: one text after the other."""
    asked = demands(REQUESTS, most=plan.longest)
    series, ratios, alike = [], [], []
    for kind in KINDS:
        folder = save(kind, scratch / kind)
        subjects = [Windowed(folder, alone=alone) for alone in (False, True)]
        rates: dict[str, list[float]] = {subject.name: [] for subject in subjects}
        tokens: dict[str, list[list[int]]] = {}
        for _ in range(plan.rounds):
            for subject in subjects:
                answered = subject.answer(asked)
                tokens[subject.name] = answered.tokens
                rates[subject.name].append(answered.rate(asked))
                rate = rates[subject.name][-1]
                print(f"windows  {kind}, {subject.name}: {rate:,.1f} tokens/s", flush=True)
        series += [Series(f"{kind}, {name}", "useful tokens/s", rates[name]) for name in rates]
        ratios.append(Ratio(f"{kind}, tokens/s / one by one", "≥ 3", common(*rates.values())))
        alike.append(Alike(f"{kind}, the same tokens", same(*tokens.values()), len(asked)))
    return Part(
        "windows",
        f"Windows of {WINDOW} tokens in some layers, fp32, one thread, {len(asked)} at once",
        series=series,
        ratios=ratios,
        alike=alike,
        settings=[
            "one text after the other is how such models ran before they could be packed: the same engine, "
            "its steps by transformers' own cache and attention"
        ],
    )
