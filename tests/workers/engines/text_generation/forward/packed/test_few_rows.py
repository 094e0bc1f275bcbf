"""Products of few rows the other way round: the same values and shapes, and gone with the runner."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GptOssConfig

from tests.tiny_models import LLAMA
from workers.engines.text_generation.forward.packed import few_rows

CPU = torch.device("cpu")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "shape", [(1, 5), (1, 1, 5), (8, 5), (1, 30, 5), (2, 32, 5), (65, 5)], ids=str
)
def test_values_and_shapes_stay(shape: tuple[int, ...], bias: bool) -> None:
    layer = nn.Linear(5, 7, bias=bias)
    model = nn.Sequential(layer)
    rows = torch.randn(shape)
    with torch.inference_mode():
        expected = layer(rows)
        few_rows.attach(model, CPU)
        found = model(rows)

    torch.testing.assert_close(found, expected)
    assert found.shape == expected.shape
    assert found.is_contiguous()


def test_only_float32_on_a_cpu_is_turned_and_all_is_given_back() -> None:
    class Own(nn.Linear):
        """A layer with a forward pass of its own."""

    model = nn.Sequential(nn.Linear(2, 2), Own(2, 2), nn.Linear(2, 2, dtype=torch.bfloat16))

    few_rows.attach(model, torch.device("cuda"))
    assert not any("forward" in vars(layer) for layer in model)
    few_rows.attach(model, CPU)
    assert ["forward" in vars(layer) for layer in model] == [True, False, False]
    few_rows.detach(model)
    assert not any("forward" in vars(layer) for layer in model)


def test_experts_are_laid_out_for_few_rows_and_keep_their_values() -> None:
    config = GptOssConfig(**LLAMA | {"head_dim": 16, "num_local_experts": 4})
    model = AutoModelForCausalLM.from_config(config).eval()
    experts = model.model.layers[0].mlp.experts
    weights = {name: weight.clone() for name, weight in experts.named_parameters()}
    ids = torch.arange(12)[None]
    with torch.inference_mode():
        expected = model(ids).logits
        few_rows.attach(model, CPU)
        found = model(ids).logits

    torch.testing.assert_close(found, expected)
    assert experts.gate_up_proj.stride()[1:] == (1, experts.gate_up_proj.shape[1])
    assert experts.gate_up_proj_bias.is_contiguous()
    assert all(torch.equal(weight, weights[name]) for name, weight in experts.named_parameters())


def test_experts_in_other_formats_stay_as_they_are() -> None:
    config = GptOssConfig(**LLAMA | {"head_dim": 16, "num_local_experts": 4})
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)

    few_rows.attach(model, CPU)

    assert model.model.layers[0].mlp.experts.gate_up_proj.is_contiguous()
