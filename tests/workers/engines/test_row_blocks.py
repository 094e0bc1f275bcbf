"""In bfloat16 and float16 on a CPU a text's logits are the same to the last bit, whatever its company."""

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    MixtralConfig,
    PreTrainedConfig,
)

from tests.conftest import by_turns
from workers.engines.loading.placement import Placement
from workers.engines.row_blocks import ROWS, RowBlocks, wants_fixed_rows
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.forward.packed.packing import packed_runner
from workers.engines.text_generation.forward.packed.runner import PackedRunner
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

HALVES = [torch.bfloat16, torch.float16]
LENGTH = 96
WIDE = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 211,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**WIDE),
    "mixture": MixtralConfig(**WIDE, num_local_experts=4),
    "gpt2": GPT2Config(
        n_embd=512, n_layer=2, n_head=8, vocab_size=211, bos_token_id=0, eos_token_id=0
    ),
    "windows and sinks": GptOssConfig(
        **WIDE, head_dim=64, num_local_experts=4, sliding_window=12, eos_token_id=None
    ),
    "windows and soft caps": Gemma2Config(**WIDE, head_dim=64, sliding_window=12),
}


CUTS = ((40, 40), (7,) * 11 + (3,), (79, 1), (1,) * 80, (72, 8))
"""How a prompt of 80 tokens is cut."""


@cache
def made(kind: str, dtype: torch.dtype) -> PackedRunner:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(deepcopy(CONFIGS[kind]), dtype=dtype).eval()
    placement = Placement(torch.device("cpu"), dtype)
    return packed_runner(model, placement, slots=40, length=LENGTH)[0]


class Text:
    """A text in a slot, which gives the chunks that it is cut into one after the other."""

    def __init__(self, slot: int, tokens: list[int], cuts: list[int]) -> None:
        self.sequence = Sequence(str(slot), [], len(tokens), 1, Sampling(seed=0))
        self._slot, self._tokens, self._cuts = slot, tokens, list(cuts)
        self.logits: list[torch.Tensor] = []

    def next(self) -> Chunk | None:
        if not self._cuts:
            return None
        size, start = self._cuts.pop(0), len(self.sequence.tokens)
        self.sequence.tokens += self._tokens[start : start + size]
        return Chunk(self.sequence, self._slot, start, size)


def run(runner: PackedRunner, texts: list[Text]) -> None:
    by_id = {text.sequence.id: text for text in texts}
    while chunks := [chunk for text in texts if (chunk := text.next())]:
        rows, logits = runner.run(chunks)
        for row, found in zip(rows, logits, strict=True):
            by_id[row.sequence.id].logits.append(found)


def tokens(count: int, seed: int) -> list[int]:
    return torch.randint(211, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.explores
@pytest.mark.parametrize(("kind", "dtype"), by_turns(CONFIGS, HALVES), ids=str)
def test_logits_do_not_depend_on_company(kind: str, dtype: torch.dtype) -> None:
    with torch.inference_mode():
        runner = made(kind, dtype)
        # More than fill two blocks. Those around their ends, and one within, are run alone as well.
        prompts = [tokens(10 + 7 * slot % 24, slot) for slot in range(2 * ROWS + 4)]
        lone: dict[int, Text] = {}
        for slot in (0, 7, ROWS - 1, ROWS, 2 * ROWS - 1, 2 * ROWS, 2 * ROWS + 3):
            prompt = prompts[slot]
            lone[slot] = Text(slot, prompt, [len(prompt) - 3, 1, 1, 1])
            run(runner, [lone[slot]])
        crowd = [Text(s, p, [len(p) - 3, 1, 1, 1]) for s, p in enumerate(prompts)]
        run(runner, crowd)

    for slot, alone in lone.items():
        assert torch.equal(torch.stack(alone.logits), torch.stack(crowd[slot].logits))


@pytest.mark.explores
@pytest.mark.parametrize(("cuts", "dtype"), by_turns(CUTS, HALVES), ids=str)
def test_logits_do_not_depend_on_how_a_prompt_is_cut(
    cuts: tuple[int, ...], dtype: torch.dtype
) -> None:
    prompt = tokens(84, seed=5)
    with torch.inference_mode():
        runner = made("llama", dtype)
        whole, cut = Text(0, prompt, [80, *[1] * 4]), Text(3, prompt, [*cuts, *[1] * 4])
        run(runner, [whole])
        run(runner, [cut])

    assert len(whole.logits) == 5
    assert torch.equal(torch.stack(whole.logits), torch.stack(cut.logits[-5:]))


@pytest.mark.parametrize("shape", [(1, 8), (3, 1, 8), (2, 33, 8), (ROWS, 8)], ids=str)
def test_products_keep_their_shape_and_value(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows, weight = (torch.randn(s, generator=generator) for s in (shape, (5, 8)))
    bias = torch.randn(5, generator=generator)

    def products() -> list[Any]:
        flat = rows.reshape(-1, 8)
        return [
            torch.nn.functional.linear(rows, weight, bias),
            torch.nn.functional.linear(rows, weight, bias=bias),
            torch.addmm(bias, flat, weight.t()),
        ]

    with RowBlocks():
        found = products()
    for blocked, plain in zip(found, products(), strict=True):
        assert blocked.shape == plain.shape
        torch.testing.assert_close(blocked, plain)


@pytest.mark.parametrize(
    ("device", "dtype", "wanted"),
    [
        ("cpu", torch.bfloat16, True),
        ("cpu", torch.float16, True),
        ("cpu", torch.float32, False),
        ("cuda", torch.bfloat16, False),
    ],
)
def test_fixed_rows_are_for_short_floats_on_a_cpu(
    device: str, dtype: torch.dtype, wanted: bool
) -> None:
    assert wants_fixed_rows(torch.device(device), dtype) is wanted
