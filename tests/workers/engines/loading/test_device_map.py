"""Models larger than a device: refused with both sizes, or laid out as the catalogue allows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import Batch
from tests.engine_driver import drive
from tests.tiny_models import LLAMA, embedding_spec, save_causal, text_spec
from workers.engines.base import Work
from workers.engines.embedding.engine import Embedding
from workers.engines.loading import pretrained
from workers.engines.loading.device_map import device_map, fits_at_once, rooms
from workers.engines.loading.fit import Need, needed
from workers.engines.loading.placement import Placement
from workers.engines.text_generation.engine import TextGeneration

CPU = torch.device("cpu")
GPUS = (torch.device("cuda", 0), torch.device("cuda", 1))


def on(*devices: torch.device, **options: Any) -> Placement:
    return Placement(devices[0], torch.float32, devices, **options)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Bytes that are free on each of two GPUs of 24 GiB."""
    free = {0: 11 * 2**30 + 2**28, 1: 20 * 2**30}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[device.index], 24 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2**30)
    return free


def test_a_model_that_does_not_fit_is_refused_with_both_sizes(gpus: dict[int, int]) -> None:
    need = Need(weights=14 * 2**30, cache=2**28)

    with pytest.raises(ConfigError, match=r"needs 15\.0 GiB .*float32.*cuda:0 has 11\.2 GiB"):
        fits_at_once(need, on(GPUS[0]), "models.m.path")


@pytest.mark.parametrize(
    ("gib", "options", "expected"), [(10, {}, True), (14, {"offload": "cpu"}, False)]
)
def test_one_device_is_enough_or_offload_is_allowed(
    gpus: dict[int, int], gib: int, options: dict[str, Any], expected: bool
) -> None:
    assert fits_at_once(Need(gib * 2**30, 0), on(GPUS[0], **options), "m") is expected


def test_several_devices_are_used_only_if_one_is_too_small(gpus: dict[int, int]) -> None:
    assert fits_at_once(Need(10 * 2**30, 0), on(*GPUS), "m")
    assert not fits_at_once(Need(14 * 2**30, 0), on(*GPUS), "m")
    assert list(rooms(on(*GPUS))) == [0, 1]


def test_a_share_bounds_what_may_be_taken(gpus: dict[int, int]) -> None:
    assert on(GPUS[0], share=0.25).free_bytes() == 5 * 2**30
    assert on(GPUS[0], share=0.75).free_bytes() == gpus[0]
    assert on(CPU, share=0.001).free_bytes() < on(CPU).free_bytes()


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("deep"), **(LLAMA | {"num_hidden_layers": 6}))


def test_layers_are_kept_whole_and_in_order(deep: Path) -> None:
    size = needed(deep, 4, 0, "m").weights
    found = device_map(AutoModelForCausalLM, deep, on(*GPUS), {0: int(size * 0.7), 1: size}, "m")

    layers = [place for name, place in found.items() if name.startswith("model.layers.")]
    assert set(layers) == {0, 1} and layers == sorted(layers)
    assert all(name.count(".") <= 2 for name in found if name.startswith("model.layers."))


def test_offload_is_never_silent(deep: Path) -> None:
    size = needed(deep, 4, 0, "m").weights
    small = {0: int(size * 0.4), 1: int(size * 0.3)}

    with pytest.raises(ConfigError, match=r"parts of the model.*find no room \(0: .*, 1: "):
        device_map(AutoModelForCausalLM, deep, on(*GPUS), dict(small), "m")

    allowed = device_map(AutoModelForCausalLM, deep, on(*GPUS, offload="cpu"), dict(small), "m")
    assert "cpu" in allowed.values() and "disk" not in allowed.values()
    allowed = device_map(AutoModelForCausalLM, deep, on(*GPUS, offload="disk"), dict(small), "m")
    assert "disk" in allowed.values() and "cpu" not in allowed.values()


def cramped(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """From here on this machine has room for two thirds of the model."""
    size = needed(path, 4, 0, "m").weights
    monkeypatch.setattr(pretrained, "fits_at_once", lambda need, placement, where: False)
    monkeypatch.setattr(pretrained, "rooms", lambda placement: {"cpu": int(size * 0.66)})


def test_a_text_model_half_on_disk_says_what_it_says_in_memory(
    deep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work("a", "The quick brown fox", {"max_new_tokens": 6}, seed=1)
    engine = TextGeneration(text_spec(deep))
    engine.load()
    expected = drive(engine, [work]).text("a")

    cramped(monkeypatch, deep)
    spread = TextGeneration(text_spec(deep, offload="disk"))
    spread.load()

    assert drive(spread, [work]).text("a") == expected


def test_an_encoder_half_on_disk_makes_the_same_vectors(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work("a", ["The quick brown fox", "a"], {}, seed=1)
    engine = Embedding(embedding_spec(bert, batch=Batch(token_budget=64)))
    engine.load()
    expected = drive(engine, [work]).finished("a").output["embeddings"]

    cramped(monkeypatch, bert)
    spread = Embedding(embedding_spec(bert, offload="disk", batch=Batch(token_budget=64)))
    spread.load()
    found = drive(spread, [work]).finished("a").output["embeddings"]

    assert found[0] == pytest.approx(expected[0], abs=1e-5)
