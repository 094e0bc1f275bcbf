from typing import Any

import pytest
import torch

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import ModelSpec
from workers.engines.loading.placement import place


def spec(**options: Any) -> ModelSpec:
    return ModelSpec(name="m", engine="embedding", **options)


def test_a_cpu_computes_in_float32_unless_told_otherwise() -> None:
    assert place(spec(device="cpu")).dtype_name == "float32"
    assert place(spec(device=["cpu"], dtype="bf16")).dtype_name == "bfloat16"


def test_auto_takes_a_gpu_where_there_is_one() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"

    assert place(spec()).device.type == expected


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"device": "toaster"}, r"models\.m\.device: 'toaster'"),
        ({"device": "cuda:99"}, r"models\.m\.device: there is no 'cuda:99'"),
        ({"device": ["cuda:98", "cuda:99"]}, "there is no 'cuda:98'"),
        ({"device": ["cpu", "cpu"]}, "one twice"),
        ({"device": []}, "names no device"),
        ({"device": "cpu", "dtype": "int4"}, r"models\.m\.dtype: 'int4'"),
    ],
)
def test_what_is_not_there_is_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        place(spec(**options))


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, torch.device]]:
    """Two CUDA devices; returns what is asked of them in shares of memory."""
    shares: list[tuple[float, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda,
        "set_per_process_memory_fraction",
        lambda share, device: shares.append((share, device)),
    )
    return shares


@pytest.mark.parametrize(
    ("options", "devices"),
    [
        ({}, ["cuda:0"]),
        ({"device_map": "auto"}, ["cuda:0", "cuda:1"]),
        ({"device": "cuda:1"}, ["cuda:1"]),
        ({"device": ["cuda:1", "cuda:0"]}, ["cuda:1", "cuda:0"]),
        ({"device": "cpu", "device_map": "auto"}, ["cpu"]),
    ],
)
def test_which_devices_are_meant(
    two_gpus: list[Any], options: dict[str, Any], devices: list[str]
) -> None:
    found = place(spec(**options))

    assert [str(device) for device in found.devices] == devices
    assert found.device == found.devices[0]
    assert two_gpus == []


def test_only_cuda_devices_share_a_model(two_gpus: list[Any]) -> None:
    with pytest.raises(ConfigError, match="only CUDA devices"):
        place(spec(device=["cuda:0", "cpu"]))


def test_a_share_of_the_memory_binds_torch_s_allocator(
    two_gpus: list[tuple[float, torch.device]],
) -> None:
    place(spec(device="cuda:1", memory_share=0.5))

    assert two_gpus == [(0.5, torch.device("cuda", 1))]


def test_free_memory_is_measured() -> None:
    assert place(spec(device="cpu")).free_bytes() > 1 << 20


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        place(spec(device="cpu", threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
