"""Layers that run in fewer operations say what they said; what does something else keeps its own pass."""

from collections import Counter
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM

from tests.tiny_models import LLAMA
from workers.engines.loading.placement import Placement
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.forward.packed import fusing
from workers.engines.text_generation.forward.packed.fused_layers import Fused, Norm
from workers.engines.text_generation.forward.packed.packing import packed_runner
from workers.engines.text_generation.forward.packed.runner import PackedRunner
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

CPU = torch.device("cpu")
WHOLE = {"Layer": 2, "Attention": 2, "Gated": 2, "Norm": 5}
FUSED: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "LlamaConfig": ({}, WHOLE),
    "Qwen2Config": ({}, WHOLE),
    "Qwen3Config": ({"head_dim": 32}, WHOLE | {"Norm": 9}),
    "MistralConfig": ({"sliding_window": 8}, WHOLE),
    "GraniteConfig": ({"residual_multiplier": 0.5}, WHOLE | {"Layer": 0}),
    "Gemma2Config": ({"sliding_window": 8}, {"Attention": 2, "Gated": 2}),
    "GlmConfig": ({"partial_rotary_factor": 0.5, "pad_token_id": 0}, {"Norm": 5}),
    "GPTNeoXConfig": ({}, {}),
}
"""What a model has by name, and how many of its modules get which pass."""


def model_of(name: str, **more: Any) -> Any:
    """A random model whose one-dimensional weights are random as well."""
    torch.manual_seed(0)
    config = getattr(transformers, name)(**LLAMA | more)
    model = AutoModelForCausalLM.from_config(config).eval()
    for weight in model.parameters():
        if weight.dim() == 1:
            nn.init.normal_(weight, mean=1.0, std=0.3)
    return model


def runner_of(model: Any) -> PackedRunner:
    with torch.inference_mode():
        return packed_runner(model, Placement(CPU, torch.float32), 12, 32)[0]


def passes(model: Any) -> dict[str, int]:
    found = (vars(module).get("forward") for module in model.modules())
    return Counter(type(each).__name__ for each in found if isinstance(each, Fused))


def steps() -> list[list[Chunk]]:
    """Prompts of more rows than are few, then a token of few texts, then of a lone one."""
    texts = [
        Sequence(str(n), [3 + (7 * n + k) % 300 for k in range(20)], 20, 1, Sampling(seed=0))
        for n in range(12)
    ]
    whole = [Chunk(text, slot, 0, 19) for slot, text in enumerate(texts)]
    last = [Chunk(text, slot, 19, 1) for slot, text in enumerate(texts)]
    return [whole, last, last[:1]]


@pytest.mark.parametrize("name", FUSED)
def test_fused_layers_give_what_the_model_gives(name: str) -> None:
    more, expected = FUSED[name]
    model = model_of(name, **more)
    runner = runner_of(model)
    assert passes(model) == {kind: count for kind, count in expected.items() if count}
    assert runner.fused == bool(expected)
    with torch.inference_mode():
        fused = [runner.run(step)[1] for step in steps()]
        runner.unfuse()
        plain = [runner.run(step)[1] for step in steps()]

    assert not passes(model)
    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_norm_of_another_formula_and_layers_with_weights_of_their_own_keep_their_pass() -> None:
    model = model_of("LlamaConfig")

    class ShiftedRMSNorm(type(model.model.norm)):  # type: ignore[misc]
        def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = super().forward(hidden_states)
            return found + hidden_states * 1e-3

    model.model.norm.__class__ = ShiftedRMSNorm
    model.model.layers[1].mlp.up_proj.to(torch.bfloat16)
    fusing.attach(model, CPU)

    assert passes(model) == {"Gated": 1, "Norm": 4}
    fusing.detach(model)
    assert not passes(model)
    assert not fusing.attach(model, torch.device("cuda"))


def test_what_is_added_to_a_product_is_added_in_fused_layers() -> None:
    """As an adapter's share is."""
    model = model_of("LlamaConfig")
    runner = runner_of(model)
    for name in ("self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj"):
        layer = model.get_submodule(f"model.layers.0.{name}")
        layer.register_forward_hook(lambda _, args, out: out + args[0].mean(-1, keepdim=True))
    assert passes(model) == WHOLE
    with torch.inference_mode():
        fused = [runner.run(step)[1] for step in steps()]
        runner.unfuse()
        plain = [runner.run(step)[1] for step in steps()]

    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_bits_of_a_row_do_not_depend_on_its_company_where_drafts_want_that() -> None:
    model = model_of("LlamaConfig")
    runner = runner_of(model)
    whole, last, lone = steps()
    expected = runner.run(whole)[1], runner.run(last)[1]

    assert runner.fix_rows()
    assert passes(model) == WHOLE
    torch.testing.assert_close(runner.run(whole)[1], expected[0], atol=1e-4, rtol=1e-4)
    together = runner.run(last)[1]
    torch.testing.assert_close(together, expected[1], atol=1e-4, rtol=1e-4)
    assert torch.equal(runner.run(lone)[1], together[:1])
    assert torch.equal(runner.run(last[:9])[1], together[:9])


def test_layers_whose_logits_are_wrong_at_load_run_as_they_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("LlamaConfig")
    monkeypatch.setattr(fusing, "CLOSE", float("inf"))
    monkeypatch.setattr(Norm, "__call__", lambda _, rows: rows * rows)

    runner = runner_of(model)

    assert not runner.fused
    assert not runner.all_rows
    assert not passes(model)
