"""Whatever the architecture and the way it is run, greedy text is what transformers' generate makes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.conftest import exploring
from tests.engine_driver import drive
from tests.tiny_models import LLAMA, WAYS, save_causal, text_spec
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration

SMALL = LLAMA | {"num_hidden_layers": 2}
OLD = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 400}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaConfig", SMALL, "packed"),
    "qwen2": ("Qwen2Config", SMALL, "packed"),
    "qwen3": ("Qwen3Config", SMALL | {"head_dim": 16}, "packed"),
    "mistral": ("MistralConfig", SMALL | {"sliding_window": None}, "packed"),
    "mistral, window of 16": ("MistralConfig", SMALL | {"sliding_window": 16}, "packed"),
    "mistral, window beyond a slot": ("MistralConfig", SMALL | {"sliding_window": 4096}, "packed"),
    "qwen2, window in some layers": (
        "Qwen2Config",
        SMALL | {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
        "packed",
    ),
    "phi3": ("Phi3Config", SMALL | {"pad_token_id": 0}, "packed"),
    "phi3, window of 16": (
        "Phi3Config",
        SMALL | {"pad_token_id": 0, "sliding_window": 16},
        "packed",
    ),
    "gemma3": ("Gemma3TextConfig", SMALL | {"head_dim": 16, "sliding_window": 16}, "packed"),
    "gpt2": ("GPT2Config", OLD, "packed"),
    "gpt-neox": (
        "GPTNeoXConfig",
        {name: value for name, value in SMALL.items() if name != "num_key_value_heads"},
        "packed",
    ),
    "opt": (
        "OPTConfig",
        {
            "hidden_size": 64,
            "ffn_dim": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "vocab_size": 400,
            "word_embed_proj_dim": 64,
        },
        "packed",
    ),
    "bloom": (
        "BloomConfig",
        {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 400},
        "packed",
    ),
    "xglm": (
        "XGLMConfig",
        {
            "d_model": 64,
            "ffn_dim": 128,
            "num_layers": 2,
            "attention_heads": 4,
            "vocab_size": 400,
            "max_position_embeddings": 256,
        },
        "packed",
    ),
    "doge": (*WAYS["static"], "static"),
}
DAILY = [
    "llama",
    "mistral, window of 16",
    "mistral, window beyond a slot",
    "phi3, window of 16",
    "gemma3",
    "gpt2",
    "bloom",
    "doge",
]
"""One for each way to keep and to place tokens; `make explore` runs all."""
PROMPTS = [
    ("The quick brown fox jumps over the lazy dog. The quick brown", 24),
    ("a", 9),
    ("naïve café", 30),
    ("def main(argv: list[str]) -> int:\n    return 0", 1),
    ("jagen Viktor", 17),
    ("the lazy dog", 12),
]


def generate(model: Any, tokenizer: Any, prompt: str, count: int) -> str:
    """The reference: one prompt at a time through transformers' own loop."""
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    with torch.inference_mode():
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )[0, ids.shape[1] :]
    text: str = tokenizer.decode(
        output, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text


@pytest.mark.explores
@pytest.mark.parametrize("name", ARCHITECTURES if exploring() else DAILY)
def test_greedy_text_is_what_transformers_generates(name: str, tmp_path: Path) -> None:
    config, options, batching = ARCHITECTURES[name]
    path = save_causal(tmp_path, config, **options)
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    # AutoTokenizer has a class for Qwen2 that cuts in another way than this file.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    engine = TextGeneration(text_spec(path))

    info = engine.load()
    works = [
        Work(str(n), prompt, {"max_new_tokens": count}, seed=0)
        for n, (prompt, count) in enumerate(PROMPTS)
    ]
    ran = drive(engine, works)
    again = drive(engine, works[:1])

    assert info.details["batching"] == batching, info.details["reason"]
    for n, (prompt, count) in enumerate(PROMPTS):
        expected = generate(model, tokenizer, prompt, count)
        # A character that is cut off at the end is left out.
        assert ran.text(str(n)) == expected.rstrip("\ufffd")
    # The longest prompt has its beginning in a slot by now.
    assert again.text("0") == ran.text("0")
    assert (again.finished("0").usage["cached_tokens"] > 0) is (batching == "packed")
