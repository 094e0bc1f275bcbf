"""A step runs what follows the last attention for the tokens whose logits are wanted alone."""

from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM

from tests.tiny_models import LLAMA
from workers.engines.loading.placement import Placement
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.forward.packed.packing import packed_runner
from workers.engines.text_generation.forward.packed.runner import PackedRunner
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

NARROWED: dict[str, dict[str, Any]] = {
    "LlamaConfig": {},
    "GPTNeoXConfig": {},
    "BloomConfig": {},
    "Gemma2Config": {"sliding_window": 8},
    "GptOssConfig": {"head_dim": 16, "num_local_experts": 4, "sliding_window": 8},
}
"""Residuals one after the other and side by side, positions in the scores, soft caps, windows, experts."""


def runner_of(name: str, **more: Any) -> tuple[Any, PackedRunner]:
    torch.manual_seed(0)
    config = getattr(transformers, name)(**LLAMA | more)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.inference_mode():
        return model, packed_runner(model, Placement(torch.device("cpu"), torch.float32), 4, 64)[0]


def chunk(slot: int, text: int, start: int, length: int, known: int) -> Chunk:
    """`length` tokens from `start` on of a text of `text`, whose first `known` are its prompt."""
    tokens = [3 + slot + n for n in range(text)]
    return Chunk(
        Sequence(str(slot), tokens, known, 1, Sampling(seed=0, logprobs=1)), slot, start, length
    )


def mixed_step() -> list[Chunk]:
    """A whole prompt, the beginning of one, a text that goes on, and one whose last three are asked for."""
    return [
        chunk(0, text=12, start=0, length=12, known=12),
        chunk(1, text=30, start=0, length=7, known=30),
        chunk(2, text=1, start=0, length=1, known=1),
        chunk(3, text=9, start=0, length=9, known=7),
    ]


@pytest.mark.parametrize("name", NARROWED)
@torch.inference_mode()
def test_wanted_tokens_alone_go_through_the_last_layer(name: str) -> None:
    model, runner = runner_of(name, **NARROWED[name])
    sizes: dict[str, int] = {}
    for part, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.LayerNorm):
            module.register_forward_hook(
                lambda _, __, out, part=part: sizes.update({part: out.shape[:-1].numel()})
            )

    rows, logits = runner.run(mixed_step())
    narrow = list(sizes.values())
    runner.all_rows = True
    same_rows, expected = runner.run(mixed_step())

    assert not any(row.sequence.id == "1" for row in rows)
    assert [(row.sequence.id, row.position) for row in rows] == [
        (row.sequence.id, row.position) for row in same_rows
    ]
    assert {(row.sequence.id, row.position) for row in rows} == {
        ("0", 11), ("2", 0), ("3", 6), ("3", 7), ("3", 8),
    }  # fmt: skip
    assert set(narrow) == {29, 5}
    assert 29 in sizes.values()
    torch.testing.assert_close(logits, expected)


@torch.inference_mode()
def test_a_step_in_which_nothing_is_wanted_brings_no_logits() -> None:
    _, runner = runner_of("LlamaConfig")

    rows, logits = runner.run([chunk(1, text=30, start=0, length=7, known=30)])

    assert rows == []
    assert len(logits) == 0
    found = runner.run([chunk(1, text=30, start=7, length=23, known=30)])[1]
    expected = runner.run([chunk(1, text=30, start=0, length=30, known=30)])[1]
    torch.testing.assert_close(found, expected)


def test_all_tokens_go_through_the_last_layer_of_a_model_that_wants_them() -> None:
    _, runner = runner_of("GPT2Config")

    assert runner.all_rows
