"""What a layer sees is read off the mask that transformers makes for it."""

from typing import Any

import pytest
import torch
from transformers.masking_utils import (
    and_masks,
    bidirectional_mask_function,
    causal_mask_function,
    chunked_causal_mask_function,
    or_masks,
    sliding_window_causal_mask_function,
)

from workers.engines.packed_attention import RULE, AttentionCall, Unpackable
from workers.engines.text_generation.forward.packed.layout import look_back
from workers.engines.text_generation.forward.packed.reach import FULL, Reach, reach_of

NO_PADDING = torch.zeros(1, dtype=torch.long)
ROW = torch.zeros(1, 2, 3, 4)


def call(rule: Any, **options: Any) -> AttentionCall:
    mask = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    setattr(mask, RULE, rule)
    return AttentionCall(torch.nn.Identity(), ROW, ROW, ROW, mask=mask, **options)


@pytest.mark.parametrize(
    ("rule", "reach"),
    [
        (causal_mask_function, FULL),
        (sliding_window_causal_mask_function(7), Reach(7)),
        (sliding_window_causal_mask_function(1), Reach(1)),
        (sliding_window_causal_mask_function(299), Reach(299)),
        (sliding_window_causal_mask_function(300), FULL),
        (chunked_causal_mask_function(7, NO_PADDING), Reach(7, chunked=True)),
        (chunked_causal_mask_function(128, NO_PADDING), Reach(128, chunked=True)),
        (chunked_causal_mask_function(300, NO_PADDING), FULL),
    ],
)
def test_a_rule_is_told_by_what_it_hides(rule: Any, reach: Reach) -> None:
    assert reach_of(call(rule), 300) == reach
    # The mask is the truth, whatever else the layer is told.
    assert reach_of(call(rule, window=5), 300) == reach


@pytest.mark.parametrize(
    "rule",
    [
        bidirectional_mask_function,
        or_masks(causal_mask_function, lambda b, h, q, k: k < 9),
        and_masks(causal_mask_function, lambda b, h, q, k: (k % 2 == 0) | (k == q)),
        and_masks(causal_mask_function, lambda b, h, q, k: k != q),
        # Chunks first, and a window behind them.
        lambda b, h, q, k: (k <= q) & (k >= torch.where(q < 128, q // 16 * 16, q - 15)),
    ],
)
def test_any_other_mask_is_not_packed(rule: Any) -> None:
    with pytest.raises(Unpackable, match="mask"):
        reach_of(call(rule), 300)


def test_without_a_mask_the_layers_own_window_counts() -> None:
    bare = AttentionCall(torch.nn.Identity(), ROW, ROW, ROW)

    assert reach_of(bare, 300) == FULL
    assert reach_of(bare._replace(window=16), 300) == Reach(16)
    assert reach_of(bare._replace(window=300), 300) == FULL
    with pytest.raises(Unpackable, match="mask of its own"):
        reach_of(bare._replace(mask=torch.ones(1, 1, 3, 3)), 300)


@pytest.mark.parametrize("reach", [FULL, Reach(5), Reach(1), Reach(6, chunked=True)])
def test_a_ring_shows_each_row_the_tokens_that_it_may_see(reach: Reach) -> None:
    size = 40 if reach == FULL else 11
    positions = [0, 3, 7, 10, 11, 12, 23, 39]

    mask = look_back(torch.tensor(positions), 40, reach, size)

    for row, position in enumerate(positions):
        shown = {place for place in range(mask.shape[-1]) if mask[row, 0, 0, place]}
        seen = range(reach.first(position), position + 1)
        assert shown == {token % size for token in seen}
        assert len(shown) == len(seen)
