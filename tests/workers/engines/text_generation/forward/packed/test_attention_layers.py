"""Attention layers that are not exchangeable in transformers, routed to packed attention and back."""

from typing import Any

import pytest
import torch

from tests.zoo.table import PACKED, Model
from workers.engines.loading.placement import Placement
from workers.engines.packed_attention import AttentionCall, PositionBias, Unpackable
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.forward import trial
from workers.engines.text_generation.forward.packed import attention_layers
from workers.engines.text_generation.forward.packed.attention import ShapeProbe
from workers.engines.text_generation.forward.packed.packing import packed_runner
from workers.engines.text_generation.forward.trial import plain_logits
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

CPU = torch.device("cpu")
OLDER = ("bloom", "mpt", "falcon, alibi", "falcon, new architecture", "gptj", "openai-gpt", "xglm")
TEXT = [5, 80, 3, 3, 41, 7]


@torch.inference_mode()
def packed(model: Any, dtype: torch.dtype = torch.float32, length: int = 160) -> Any:
    return packed_runner(model, Placement(CPU, dtype), 4, length)


@pytest.mark.parametrize("name", OLDER)
def test_layers_are_given_back(name: str) -> None:
    model = PACKED[name].make()
    before = [set(vars(module)) for module in model.modules()]
    with torch.inference_mode():
        expected = plain_logits(model, TEXT, CPU)
        runner, _ = packed(model)
        runner.detach()

        assert torch.equal(plain_logits(model, TEXT, CPU), expected)
    assert [set(vars(module)) for module in model.modules()] == before


@pytest.mark.parametrize("name", ["bloom", "mpt", "falcon, alibi"])
def test_biases_by_position_are_right_in_bfloat16(name: str) -> None:
    _, slots = packed(PACKED[name].make().to(torch.bfloat16), torch.bfloat16)

    assert slots == 4, "its logits were found right"


def test_keys_that_heads_share_are_kept_once() -> None:
    model = PACKED["falcon, new architecture"].make()
    runner, _ = packed(model)

    assert runner._cache.keys[0].shape[1] == model.config.num_kv_heads == 2


def test_a_bias_by_position_is_made_for_as_many_positions_as_are_asked_for() -> None:
    made: list[int] = []

    def make(length: int) -> torch.Tensor:
        made.append(length)
        return torch.arange(length)[None] * torch.tensor([[1.0], [0.5]])

    bias = PositionBias(make)

    assert bias.of(range(2, 4)).tolist() == [[2, 3], [1, 1.5]]
    assert bias.of(range(4)).shape == bias.of(range(3, 7)).shape == (2, 4)
    assert made == [4, 8]


def test_a_bias_is_wanted_for_all_of_a_text_alone() -> None:
    query = torch.zeros(1, 2, 3, 4)
    layer = torch.nn.Module()
    layer.layer_idx = 0  # type: ignore[assignment]
    call = AttentionCall(layer, query, query, query, window=8, bias=PositionBias(torch.zeros))

    with pytest.raises(Unpackable, match="depend on positions"):
        ShapeProbe(64).attend(call)


def windowed() -> Any:
    """GPT-Neo, whose second layer has a window that trial texts do not cross."""
    own = PACKED["gpt_neo"].own | {"window_size": 64}
    return Model("gpt_neo", own, PACKED["gpt_neo"].without).make()


@torch.inference_mode()
def test_a_window_in_a_buffer_is_tried_short_and_runs_as_it_is() -> None:
    model, text = windowed(), [n * n % 90 for n in range(150)]
    mask = model.transformer.h[1].attn.attention.bias.clone()
    expected = plain_logits(model, text, CPU)
    runner, _ = packed(model)

    sequence = Sequence("text", text, 1, 1, Sampling(seed=0))
    rows, logits = runner.run([Chunk(sequence, 2, 0, len(text))])

    assert torch.equal(model.transformer.h[1].attn.attention.bias, mask)
    assert len(rows) == len(text) - sequence.wanted
    torch.testing.assert_close(logits, expected[sequence.wanted :], atol=1e-4, rtol=1e-4)


def test_a_window_that_no_trial_can_cross_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = windowed()
    monkeypatch.setattr(trial, "BOUNDS", ())

    with pytest.raises(
        Unpackable, match="layer 1 sees a window of 64 tokens, which cannot be tried"
    ):
        packed(model)
    assert not any("_attn" in vars(module) for module in model.modules())


def test_a_model_without_positions_and_such_layers_is_not_packed() -> None:
    class Nameless(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return input_ids

    with pytest.raises(Unpackable, match="takes no position ids"):
        attention_layers.positions_of(Nameless(), torch.zeros(1))
