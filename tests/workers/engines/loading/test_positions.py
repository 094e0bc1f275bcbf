"""The longest text that a model has positions for."""

from typing import Any

import pytest

from tests.zoo.models import Model
from workers.engines.loading.positions import longest_text

ROPE = {"rope_theta": 10000.0}


@pytest.mark.parametrize(
    ("kind", "own", "expected"),
    [
        ("llama", {"max_position_embeddings": 64}, 64),
        ("gpt2", {"max_position_embeddings": 48}, 48),
        ("opt", {"max_position_embeddings": 48}, 48),
        ("roberta", {"max_position_embeddings": 50, "pad_token_id": 1}, 48),
        ("roberta", {"max_position_embeddings": 50, "pad_token_id": 0}, 49),
        ("mpt", {"max_seq_len": 40}, 40),
        ("bloom", {}, None),
        ("mamba", {}, None),
    ],
)
def test_tables_and_configurations(kind: str, own: dict[str, Any], expected: int | None) -> None:
    assert longest_text(Model(kind, own).make()) == expected


@pytest.mark.parametrize(
    ("said", "rope", "expected"),
    [
        # Qwen 2.5 says the length of its first training, DeepSeek what became of it.
        (32, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}, 128),
        (128, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}, 128),
        (32, {"rope_type": "dynamic", "factor": 2.0}, 64),
        (128, {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64,
               "low_freq_factor": 1.0, "high_freq_factor": 4.0}, 128),
        (128, {"rope_type": "linear", "factor": 4.0}, 128),
        (128, {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
               "original_max_position_embeddings": 32}, 128),
    ],
)  # fmt: skip
def test_stretched_rotary_positions(said: int, rope: dict[str, Any], expected: int) -> None:
    own = {"max_position_embeddings": said, "rope_parameters": rope | ROPE}

    assert longest_text(Model("llama", own).make()) == expected
