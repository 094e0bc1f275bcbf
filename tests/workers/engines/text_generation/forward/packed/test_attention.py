"""Single tokens attend one by one or in one call: on a GPU and on a CPU the texts are the same."""

from pathlib import Path
from typing import Any

import pytest

from shared.domain.models.catalog import Batch
from tests.engine_driver import drive
from tests.tiny_models import LLAMA, save_causal, text_spec
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.forward.packed import layout

SHAPES = [
    ("LlamaConfig", LLAMA),
    ("GPT2Config", {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 400}),
    ("GptOssConfig", LLAMA | {"head_dim": 16, "num_local_experts": 4, "sliding_window": 12}),
    ("Gemma2Config", LLAMA | {"head_dim": 16, "sliding_window": 12}),
]


@pytest.mark.parametrize(("config", "options"), SHAPES)
@pytest.mark.parametrize("slots", [3, 8])
def test_single_tokens_together_and_one_by_one_say_the_same(
    config: str,
    options: dict[str, Any],
    slots: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = save_causal(tmp_path, config, **options)
    texts = []
    for together in (False, True):
        monkeypatch.setattr(layout, "together", lambda _, together=together: together)
        engine = TextGeneration(text_spec(path, batch=Batch(max_size=slots, token_budget=24)))
        engine.load()
        # Of unlike lengths, so that some slots fall idle and rows stand apart.
        works = [
            Work(str(n), "The quick brown fox"[: 2 + n], {"max_new_tokens": 3 + 5 * n % 30}, n)
            for n in range(10)
        ]
        ran = drive(engine, works)
        texts.append([ran.text(work.id) for work in works])

    assert texts[0] == texts[1]
