"""Delta rules with less work: the numbers of transformers' own fallbacks, for each row by itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers.models.kimi_linear import modeling_kimi_linear
from transformers.models.olmo_hybrid import modeling_olmo_hybrid
from transformers.models.qwen3_next import modeling_qwen3_next

from workers.engines.text_generation.forward.stacked.delta_rules import leaner

ROWS, GROUPS, HEADS, K, V = 5, 2, 4, 6, 3
HEAD, NUMBER = (), (K,)
"""What fades by one factor: a whole head, or each number of a key."""
RULES = {
    "qwen3_next": (modeling_qwen3_next, "torch_recurrent_gated_delta_rule", GROUPS, HEAD),
    "olmo_hybrid": (modeling_olmo_hybrid, "torch_recurrent_gated_delta_rule", HEADS, HEAD),
    "kimi_linear": (modeling_kimi_linear, "recurrent_kimi_delta_attention", HEADS, NUMBER),
}


def arguments(
    groups: int, fading: tuple[int, ...], dtype: torch.dtype, tokens: int = 1
) -> dict[str, Any]:
    """What a layer hands to its rule."""
    chance = torch.Generator().manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(ROWS, *shape, generator=chance)

    return {
        "query": some(tokens, groups, K).to(dtype),
        "key": some(tokens, groups, K).to(dtype),
        "value": some(tokens, HEADS, V).to(dtype),
        "g": -some(tokens, HEADS, *fading).abs(),
        "beta": some(tokens, HEADS).sigmoid().to(dtype),
        "initial_state": some(HEADS, K, V),
        "output_final_state": True,
        "use_qk_l2norm_in_kernel": True,
    }


@pytest.fixture(params=RULES)
def rule(
    request: pytest.FixtureRequest,
) -> tuple[Callable[..., Any], Callable[..., Any], int, tuple[int, ...]]:
    """Transformers' own, ours, the heads of its keys, and what fades."""
    file, name, groups, fading = RULES[request.param]
    own = getattr(file, name)
    return own, leaner(own, file), groups, fading


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_token_moves_states_as_transformers_moves_them(rule: Any, dtype: torch.dtype) -> None:
    own, lean, groups, fading = rule
    expected, found = (arguments(groups, fading, dtype) for _ in range(2))

    right, state = own(**expected)
    read, moved = lean(**found)

    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 1e-2}
    torch.testing.assert_close(read, right, **near)
    torch.testing.assert_close(moved, state, rtol=1e-5, atol=1e-5)
    assert moved is found["initial_state"]


def test_no_bit_of_a_row_depends_on_the_others(rule: Any) -> None:
    _, lean, groups, fading = rule
    given = arguments(groups, fading, torch.bfloat16)
    rows = [
        {n: v[row : row + 1].clone() if torch.is_tensor(v) else v for n, v in given.items()}
        for row in range(ROWS)
    ]

    together = lean(**given)
    alone = [lean(**row) for row in rows]

    for both, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.equal(both, torch.cat(parts))


@pytest.mark.parametrize("change", [{"tokens": 3}, {"initial_state": None}])
def test_what_is_no_step_of_one_token_is_left_to_transformers(
    rule: Any, change: dict[str, Any]
) -> None:
    own, lean, groups, fading = rule
    expected, found = (
        arguments(groups, fading, torch.float32, change.get("tokens", 1)) for _ in range(2)
    )
    if "initial_state" in change:
        expected["initial_state"] = found["initial_state"] = None

    assert all(map(torch.equal, lean(**found), own(**expected)))
