"""Functions of transformers' files that are replaced for the time of a pass, and put back."""

from typing import Any

import pytest
import torch
from transformers.models.kimi_linear import modeling_kimi_linear
from transformers.models.mamba2 import modeling_mamba2
from transformers.models.qwen3_next import modeling_qwen3_next

from tests.zoo.table import STACKED
from workers.engines.text_generation.forward.reading import empty_state, read
from workers.engines.text_generation.forward.stacked.lean_layers import LeanLayers

OF = {
    "mamba2": (modeling_mamba2, ["mamba2_selective_state_update", "causal_conv1d_update"], []),
    "qwen3_next": (
        modeling_qwen3_next,
        ["torch_recurrent_gated_delta_rule", "causal_conv1d_update"],
        ["torch_chunk_gated_delta_rule"],
    ),
    "kimi_linear": (
        modeling_kimi_linear,
        ["recurrent_kimi_delta_attention", "causal_conv1d_update"],
        ["chunk_kimi_delta_attention"],
    ),
}
"""The file of an architecture, and what is replaced there while tokens are made and prompts are read."""


@pytest.mark.parametrize("name", OF)
def test_what_is_replaced_for_a_pass_is_put_back_whatever_happens(name: str) -> None:
    file, updates, chunks = OF[name]
    lean = LeanLayers(STACKED[name].make())
    own = {function: getattr(file, function) for function in (*updates, *chunks)}

    def replaced() -> list[str]:
        return [function for function in own if getattr(file, function) is not own[function]]

    for pass_, expected in ((lean.decoding, updates), (lambda: lean.reading(9), chunks)):
        with pytest.raises(ValueError, match="no"), pass_():
            assert replaced() == expected
            raise ValueError("no")
        assert not replaced()


@pytest.mark.parametrize("name", ["qwen3_next", "kimi_linear"])
def test_a_prompt_that_is_read_in_short_chunks_leaves_what_it_leaves_in_long_ones(
    name: str,
) -> None:
    model = STACKED[name].make()
    ids = torch.arange(1, 51)[None]

    def logits() -> torch.Tensor:
        found: Any = read(model, empty_state(model), ids, 0, 50)
        made: torch.Tensor = read(model, found[1], torch.cat([ids, ids[:, :1]], 1), 50, 1)[0]
        return torch.cat([found[0], made], 1)

    with torch.inference_mode():
        right = logits()
        with LeanLayers(model).reading(50):
            found = logits()

    # As of texts in company: sums are made in another order.
    assert (found - right).abs().max() < 2e-3
