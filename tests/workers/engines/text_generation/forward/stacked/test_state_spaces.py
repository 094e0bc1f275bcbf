"""Mamba-2 layers with less work: the numbers of transformers' own fallback, and nothing left behind."""

import pytest
import torch
from transformers.models.mamba2 import modeling_mamba2

from tests.zoo.table import STACKED
from workers.engines.text_generation.forward.stacked.state_spaces import (
    UPDATE,
    has_chunks,
    leaner,
    short_chunks,
)

ROWS, HEADS, WIDTH, N, GROUPS = 3, 4, 5, 6, 2


def arguments(dtype: torch.dtype, *, by_head: bool) -> dict[str, torch.Tensor]:
    """What a mixer hands to its update; A and dt are one number a head, or of every place."""
    torch.manual_seed(0)
    a, dt, bias = torch.rand(HEADS), torch.randn(ROWS, HEADS), torch.randn(HEADS)
    made = {
        "state": torch.randn(ROWS, HEADS, WIDTH, N),
        "hidden_states": torch.randn(ROWS, HEADS, WIDTH),
        "dt": dt[..., None].expand(-1, -1, WIDTH),
        "A": -a[:, None, None].expand(-1, WIDTH, N),
        "B": torch.randn(ROWS, GROUPS, N),
        "C": torch.randn(ROWS, GROUPS, N),
        "D": torch.randn(HEADS)[:, None].expand(-1, WIDTH),
        "dt_bias": bias[:, None].expand(-1, WIDTH),
    }
    if not by_head:
        made["A"] = made["A"] * torch.rand(HEADS, WIDTH, N)
    return {name: tensor.to(dtype) for name, tensor in made.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("by_head", [True, False])
def test_an_update_is_that_of_transformers(dtype: torch.dtype, by_head: bool) -> None:
    own = getattr(modeling_mamba2, UPDATE)
    expected, found = (arguments(dtype, by_head=by_head) for _ in range(2))
    right = own(**expected, dt_softplus=True)

    said = leaner(own, modeling_mamba2)(**found, dt_softplus=True)

    assert torch.allclose(said, right, rtol=1e-5, atol=1e-5)
    assert torch.allclose(found["state"], expected["state"], rtol=1e-5, atol=1e-5)


def test_chunks_are_as_short_as_the_prompt_allows() -> None:
    model = STACKED["mamba2"].make()
    mixers = [module for module in model.modules() if has_chunks(module, modeling_mamba2)]
    assert mixers
    for mixer in mixers:
        mixer.chunk_size = 256

    for tokens, size in ((1, 8), (9, 16), (33, 64), (2000, 64)):
        with short_chunks(mixers, tokens):
            assert {mixer.chunk_size for mixer in mixers} == {size}
        assert {mixer.chunk_size for mixer in mixers} == {256}
    with pytest.raises(ValueError, match="no"), short_chunks(mixers, 9):
        raise ValueError("no")
    assert {mixer.chunk_size for mixer in mixers} == {256}
