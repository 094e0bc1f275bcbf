"""The choice at load for models that cannot be packed: by their logits, and by the memory that there is."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.domain.errors import ConfigError
from tests.tiny_models import WAYS, save_causal, text_spec
from tests.zoo.models import Model
from tests.zoo.table import INDEXED, PACKED, STACKED
from workers.engines.loading.placement import Placement
from workers.engines.packed_weights import Product
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.forward import memory, unpacked
from workers.engines.text_generation.forward.indexers import indexers
from workers.engines.text_generation.forward.memory import rows_that_fit
from workers.engines.text_generation.forward.stacked.row_attention import RowAttention
from workers.engines.text_generation.forward.stacked.row_indexers import RowIndexers
from workers.engines.text_generation.forward.stacked.runner import StackedRunner
from workers.engines.text_generation.forward.stacked.token_shifts import TokenShifts
from workers.engines.text_generation.forward.static import StaticRunner
from workers.engines.text_generation.forward.unpacked import Way, unpacked_runner

CPU = Placement(torch.device("cpu"), torch.float32)
HALF = Placement(torch.device("cpu"), torch.bfloat16)
CHOOSE = RowIndexers._choose


@pytest.fixture
def hybrid() -> Any:
    return STACKED["jamba"].make()


@torch.inference_mode()
def chosen(model: Any, slots: int = 4, length: int = 64) -> Way:
    return unpacked_runner(model, CPU, slots, length)


def test_a_right_hybrid_is_stacked_and_says_what_its_states_take(hybrid: Any) -> None:
    way = chosen(hybrid)

    assert way.batching == "stacked"
    assert way.slots == 4
    # Layer 0: a convolution over 64 channels of 4 tokens, and 64 x 8 numbers of state, in float32.
    assert way.state_bytes == 4 * 64 * (4 + 8)


@pytest.mark.parametrize("fault", ["position", "company", "raises"])
def test_a_model_whose_stacked_logits_are_wrong_runs_one_by_one(
    hybrid: Any, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = RowAttention.attend

    def wrong(
        self: RowAttention, module: Any, query: Any, key: Any, *rest: Any, **options: Any
    ) -> Any:
        if not self.decodes:
            return right(self, module, query, key, *rest, **options)
        if fault == "raises":
            raise RuntimeError("no such kernel")
        if fault == "position":
            return right(self, module, query, key.flip(-1), *rest, **options)
        found, weights = right(self, module, query, key, *rest, **options)
        return found + 0.2 * found.mean(dim=0, keepdim=True), weights

    monkeypatch.setattr(RowAttention, "attend", wrong)
    before = hybrid.config._attn_implementation

    way = chosen(hybrid)

    assert way.batching == "static"
    assert isinstance(way.runner, StaticRunner)
    assert way.runner.cached
    assert ("no such kernel" if fault == "raises" else "off by") in way.reason
    assert "whole text again" not in way.reason
    assert hybrid.config._attn_implementation == before


def test_a_model_whose_cache_is_wrong_says_that_it_reads_texts_again(
    hybrid: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacked, "largest_error", lambda *_: float("nan"))

    way = chosen(hybrid)

    assert isinstance(way.runner, StaticRunner)
    assert not way.runner.cached
    assert "every token reads its whole text again" in way.reason


def test_texts_that_are_read_again_when_they_outgrow_a_window_are_not_stacked_beyond_it() -> None:
    model = PACKED["phi3, longrope"].make()

    assert "read again as a whole" in chosen(model, length=64).reason
    assert chosen(model, length=24).batching == "stacked"


def test_an_architecture_that_mixes_rows_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # RWKV as transformers has it: rows meet by broadcasting.
    monkeypatch.setattr(TokenShifts, "by_row", lambda *_: nullcontext())
    way = chosen(STACKED["rwkv"].make())

    assert way.batching == "static"
    assert "stacked, its logits are off by" in way.reason


@pytest.mark.parametrize("wrong", [False, True])
def test_a_choice_that_no_text_of_the_trial_would_reach_is_tried_all_the_same(
    wrong: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model("deepseek_v32", INDEXED | {"index_topk": 64}).make()
    if wrong:
        # Rows of a step look back on all.
        monkeypatch.setattr(RowIndexers, "_choose", _all_in_steps)

    way = chosen(model)

    assert way.batching == ("static" if wrong else "stacked"), way.reason
    assert {part.index_topk for part in indexers(model)} == {64}


def _all_in_steps(self: RowIndexers, forward: Any, *given: Any, **named: Any) -> Any:
    found = CHOOSE(self, forward, *given, **named)
    return None if self._attention.decodes else found


def test_rows_are_bounded_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Placement, "free_bytes", lambda _: 100_000)

    # 40 % of it on a CPU; a step has states twice.
    assert rows_that_fit(64, 1000, 500, CPU) == 16
    assert rows_that_fit(8, 1000, 500, CPU) == 8
    with pytest.raises(ConfigError, match=r"limits\.max_prompt_tokens"):
        rows_that_fit(64, 30_000, 0, CPU)


def test_a_model_with_too_large_states_is_refused_at_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, sizes = WAYS["stacked"]
    engine = TextGeneration(text_spec(save_causal(tmp_path, config, **sizes)))
    # The weights fit; what is left of the memory does not hold one row.
    monkeypatch.setattr(memory, "MEMORY_SHARE", {"cpu": 0.0})

    with pytest.raises(ConfigError, match=r"models\.tiny: one sequence needs"):
        engine.load()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_what_stacking_sets_up_is_undone(hybrid: Any, dtype: torch.dtype) -> None:
    hybrid.to(dtype)
    before = hybrid.config._attn_implementation
    weights = {name: weight.clone() for name, weight in hybrid.state_dict().items()}
    with torch.inference_mode():
        StackedRunner(hybrid, CPU.device).detach()

    assert hybrid.config._attn_implementation == before
    assert not any(hasattr(module, "row_attention") for module in hybrid.modules())
    assert not any("forward" in vars(module) for module in hybrid.modules())
    assert all(torch.equal(weights[name], one) for name, one in hybrid.state_dict().items())


@pytest.mark.parametrize("reads", [False, True])
def test_half_precision_runs_over_packed_weights_unless_a_model_reads_its_weights_itself(
    hybrid: Any, reads: bool
) -> None:
    layer = hybrid.model.layers[0].feed_forward.down_proj
    if reads:
        hybrid.model.layers[0].register_forward_hook(lambda *_: layer.weight[0, 0].item() and None)
    with torch.inference_mode():
        way = unpacked_runner(hybrid.to(torch.bfloat16), HALF, 4, 64)

    assert way.batching == "stacked"
    assert isinstance(vars(layer).get("forward"), Product) is not reads
    assert bool(layer.weight.numel()) is reads
