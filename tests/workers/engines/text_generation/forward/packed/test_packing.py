"""The check at load: a model whose packed logits are wrong never runs packed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.tiny_models import LLAMA, save_causal, text_spec
from workers.engines.loading.placement import Placement
from workers.engines.packed_attention import AttentionCall, Unpackable
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.forward import trial
from workers.engines.text_generation.forward.packed import packing
from workers.engines.text_generation.forward.packed.attention import SlotAttention
from workers.engines.text_generation.forward.packed.reach import Reach
from workers.engines.text_generation.forward.trial import TOLERANCE

CPU = Placement(torch.device("cpu"), torch.float32)


def read(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path).eval()


def measured_error(
    model: Any, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype = torch.float32
) -> float:
    """What the check measures, whatever it makes of it."""
    errors: list[float] = []
    largest = packing.largest_error

    def note(*arguments: Any) -> float:
        errors.append(largest(*arguments))
        return errors[-1]

    monkeypatch.setattr(packing, "largest_error", note)
    with torch.inference_mode():
        packing.packed_runner(model, Placement(CPU.device, dtype), slots=3, length=64)
    return errors[0]


@pytest.mark.parametrize("slots", [1, 2, 9])
def test_a_right_model_is_far_inside_the_tolerance(
    llama: Path, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measured_error(read(llama), monkeypatch) < TOLERANCE[torch.float32] / 100
    with torch.inference_mode():
        assert packing.packed_runner(read(llama), CPU, slots, 64)[1] == slots


def test_rounding_in_bfloat16_is_inside_its_tolerance(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = read(llama).to(torch.bfloat16)

    assert measured_error(model, monkeypatch, torch.bfloat16) < 0.04


@pytest.mark.parametrize("fault", ["scale", "position", "company"])
def test_wrong_logits_are_noticed(llama: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = SlotAttention.attend

    def wrong(self: SlotAttention, call: AttentionCall) -> torch.Tensor:
        if fault == "scale":
            assert call.scale is not None
            call = call._replace(scale=0.5 * call.scale)
        elif fault == "position":
            call = call._replace(key=call.key.roll(1, dims=2))
        else:
            near = call.value + 0.05 * call.value.mean(dim=2, keepdim=True)
            call = call._replace(value=near)
        return right(self, call)

    monkeypatch.setattr(SlotAttention, "attend", wrong)
    model = read(llama)
    before = model.config._attn_implementation

    with pytest.raises(Unpackable, match="off by"), torch.inference_mode():
        packing.packed_runner(model, CPU, slots=3, length=64)

    assert model.config._attn_implementation == before


WINDOWED = LLAMA | {"sliding_window": 40}


@pytest.mark.parametrize("fault", ["first", "firsts"])
def test_a_wrong_window_is_noticed_though_the_trial_is_shorter_than_it(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = read(save_causal(tmp_path, "MistralConfig", **WINDOWED))
    with torch.inference_mode():
        packing.packed_runner(model, CPU, slots=3, length=64, budget=8)[0].detach()
    right = getattr(Reach, fault)
    monkeypatch.setattr(Reach, fault, lambda self, position: right(self, position - 1))

    noticed = pytest.raises(Unpackable, match=r"off by|a layer's mask")
    with noticed, torch.inference_mode():
        packing.packed_runner(model, CPU, slots=3, length=64, budget=8)

    assert model.config.sliding_window == 40


def test_a_window_that_no_short_text_can_show_is_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = read(save_causal(tmp_path, "MistralConfig", **WINDOWED | {"sliding_window": 50}))
    monkeypatch.setattr(trial, "BOUNDS", ())

    with pytest.raises(Unpackable, match="sees a window of 50 tokens, which cannot be tried"):
        packing.packed_runner(model, CPU, slots=3, length=64)
    with torch.inference_mode():
        packing.packed_runner(model, CPU, slots=3, length=50)


def test_a_model_that_fails_the_check_is_served_without_packing(
    llama: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(packing, "largest_error", lambda *_: float("nan"))

    details = TextGeneration(text_spec(llama)).load().details

    assert details["batching"] == "stacked"
    assert "off by nan" in details["reason"]
    assert "tiny is not packed, it runs stacked" in caplog.text
    assert "off by nan" in caplog.text


def test_a_position_encoding_that_depends_on_the_longest_text_is_not_packed(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    options = LLAMA | {"max_position_embeddings": 32, "rope_parameters": rope}
    model = read(save_causal(tmp_path, **options))

    with pytest.raises(Unpackable, match="position encoding"):
        packing.packed_runner(model, CPU, slots=2, length=64)
    with torch.inference_mode():
        packing.packed_runner(model, CPU, slots=2, length=32)
