"""Single tokens attend one by one or in one call: on a GPU and on a CPU texts are the same, drafts too."""

from pathlib import Path
from typing import Any

import pytest
import torch

from shared.domain.models.catalog import Batch
from tests.conftest import by_turns
from tests.engine_driver import drive
from tests.tiny_models import LLAMA, save_causal, text_spec
from tests.zoo.models import Model
from workers.engines.base import Work
from workers.engines.loading.placement import Placement
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.forward.packed import layout
from workers.engines.text_generation.forward.packed.packing import packed_runner
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

SHAPES = [
    ("LlamaConfig", LLAMA),
    ("GPT2Config", {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 400}),
    ("GptOssConfig", LLAMA | {"head_dim": 16, "num_local_experts": 4, "sliding_window": 12}),
    ("Gemma2Config", LLAMA | {"head_dim": 16, "sliding_window": 12}),
]


@pytest.mark.explores
@pytest.mark.parametrize(("shape", "slots"), by_turns(SHAPES, [3, 8]))
def test_single_tokens_together_and_one_by_one_say_the_same(
    shape: tuple[str, dict[str, Any]],
    slots: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, options = shape
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


@torch.inference_mode()
def test_a_draft_beside_a_prompt_attends_as_alone() -> None:
    model = Model("llama").make()
    runner, _ = packed_runner(model, Placement(torch.device("cpu"), torch.float32), 4, 64)

    def chunk(slot: int, start: int, count: int, draft: tuple[int, ...] = ()) -> Chunk:
        tokens = [(7 * slot + n * n) % 90 for n in range(start + count)]
        text = Sequence(str(slot), tokens, 1, 1, Sampling(seed=0))
        return Chunk(text, slot, start, count).drafting(draft)

    drafting, prompt, other = chunk(2, 9, 1, (5, 6, 7)), chunk(1, 0, 12), chunk(0, 4, 1)
    runner.run([chunk(2, 0, 9), chunk(0, 0, 4)])
    alone = torch.cat([runner.run([each])[1] for each in (other, prompt, drafting)])

    rows, together = runner.run([drafting, other, prompt])

    assert [row.sequence.id for row in rows] == ["0", "1", *["2"] * 4]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
