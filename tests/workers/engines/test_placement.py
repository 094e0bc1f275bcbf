from typing import Any

import pytest
import torch

from shared.catalog import ModelSpec
from shared.errors import ConfigError
from workers.engines.placement import place


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
        ({"device": ["cuda:0", "cuda:1"]}, "one device"),
        ({"device": "cpu", "dtype": "int4"}, r"models\.m\.dtype: 'int4'"),
    ],
)
def test_what_is_not_there_is_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        place(spec(**options))


def test_free_memory_is_measured() -> None:
    assert place(spec(device="cpu")).free_bytes() > 1 << 20


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    try:
        place(spec(device="cpu", threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
