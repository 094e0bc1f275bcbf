"""What a model needs, counted from its files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from shared.domain.errors import ConfigError
from tests.tiny_models import LLAMA, save_causal
from workers.engines.loading.fit import Need, cache_bytes, gib, header, needed, weight_bytes


def test_it_counts_what_torch_counts(llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama)
    expected = sum(p.numel() for p in model.parameters())

    for itemsize in (4, 2):
        assert needed(llama, itemsize, 0, "here").weights == expected * itemsize


def test_shards_are_summed(tmp_path: Path) -> None:
    whole = save_causal(tmp_path / "whole", **LLAMA)
    parts = tmp_path / "parts"
    AutoModelForCausalLM.from_pretrained(whole).save_pretrained(parts, max_shard_size="100KB")

    assert len(list(parts.glob("*.safetensors"))) > 1
    assert needed(parts, 2, 10, "here") == needed(whole, 2, 10, "here")


def test_only_floating_point_numbers_change_their_size(tmp_path: Path) -> None:
    tensors = {
        "a": torch.zeros(3, 5),
        "b": torch.zeros(7, dtype=torch.int64),
        "c": torch.zeros(4, dtype=torch.bfloat16),
        "d": torch.zeros(6, dtype=torch.int8),
        "e": torch.zeros(()),
    }
    save_file(tensors, tmp_path / "x.safetensors", {"format": "pt"})
    found = header(tmp_path / "x.safetensors", "here")

    assert weight_bytes(found, 2) == 15 * 2 + 7 * 8 + 4 * 2 + 6 + 2


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64}, 2 * 2 * 64),
        ({"n_layer": 2, "n_head": 4, "n_embd": 64}, 2 * 2 * 64),
        (
            {
                "num_hidden_layers": 3,
                "num_attention_heads": 8,
                "num_key_value_heads": 2,
                "hidden_size": 64,
                "head_dim": 32,
            },
            2 * 3 * 2 * 32,
        ),
        (
            {
                "text_config": {
                    "num_hidden_layers": 1,
                    "num_attention_heads": 1,
                    "hidden_size": 8,
                }
            },
            2 * 8,
        ),
        ({"hidden_size": 64}, 0),
    ],
)
def test_the_cache_of_a_text(config: dict[str, object], expected: int) -> None:
    assert cache_bytes(config, 10, 2) == expected * 10 * 2


def test_some_room_is_kept_to_compute_in() -> None:
    assert Need(1000, 50).total == 1100


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 64, (2).to_bytes(8, "little") + b"[]", b"\x05" + b"\0" * 7 + b"{no"]
)
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match=r"here: cannot load .*x\.safetensors"):
        header(file, "here")


def test_sizes_read_well() -> None:
    assert (gib(16e9), gib(5 * 2**20)) == ("14.9 GiB", "5.0 MiB")


def test_an_8b_llama_needs_what_it_needs(tmp_path: Path) -> None:
    shapes = {"model.embed_tokens.weight": [128256, 4096], "lm_head.weight": [128256, 4096]}
    for layer in range(32):
        sizes = {"q": [4096, 4096], "k": [1024, 4096], "v": [1024, 4096], "o": [4096, 4096]}
        shapes |= {f"{layer}.{name}": size for name, size in sizes.items()}
        shapes |= {f"{layer}.mlp.{n}": [14336, 4096] for n in range(3)}
    header = json.dumps({name: {"dtype": "BF16", "shape": s} for name, s in shapes.items()})
    (tmp_path / "model.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header.encode()
    )
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "hidden_size": 4096,
            }
        )
    )
    need = needed(tmp_path, 2, 8192, "here")

    assert gib(need.weights) == "15.0 GiB" and gib(need.cache) == "1.0 GiB"
