"""Short convolutions with less work: the numbers of transformers' own fallback."""

import pytest
import torch
from transformers.models.lfm2 import modeling_lfm2

from workers.engines.text_generation.forward.stacked.short_convolutions import leaner

ROWS, CHANNELS, WIDTH = 3, 10, 4
OWN = modeling_lfm2.causal_conv1d_update
LEAN = leaner(OWN, modeling_lfm2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kept", [WIDTH - 1, WIDTH])
@pytest.mark.parametrize("tokens", [1, 2])
def test_an_update_is_that_of_transformers(dtype: torch.dtype, kept: int, tokens: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, CHANNELS, tokens, dtype=dtype)
    weight, bias = torch.randn(CHANNELS, WIDTH, dtype=dtype), torch.randn(CHANNELS, dtype=dtype)
    state = torch.randn(ROWS, CHANNELS, kept, dtype=dtype)
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}

    for last in (None, bias):
        for activation in (None, "silu"):
            expected, found = state.clone(), state.clone()
            right = OWN(hidden, expected, weight, last, activation)
            made = LEAN(hidden, found, weight, last, activation)
            torch.testing.assert_close(made, right, **near)
            assert torch.equal(found, expected)
