"""Indexers of another kind than those that are known run no other way than alone."""

import pytest
import torch

from tests.zoo.models import Model
from tests.zoo.table import BLOCKS
from workers.engines.text_generation.forward.indexers import indexers
from workers.engines.text_generation.forward.stacked.row_attention import Unstackable
from workers.engines.text_generation.forward.stacked.runner import StackedRunner


def test_those_that_are_called_in_another_way_are_refused_and_left_as_they_were() -> None:
    model = Model("qwen4_exp_text", BLOCKS).make()
    ids = torch.arange(9)[None]

    with torch.inference_mode():
        before = model(input_ids=ids).logits
        with pytest.raises(Unstackable, match="its indexers are called in another way"):
            StackedRunner(model, torch.device("cpu"))
        after = model(input_ids=ids).logits

    assert torch.equal(before, after)
    assert indexers(model) and not any("forward" in vars(part) for part in indexers(model))
