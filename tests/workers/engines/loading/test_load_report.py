"""No weight of a checkpoint is left out silently, save those that change nothing."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared.domain.errors import ConfigError
from tests.tiny_models import embedding_spec, save_causal, text_spec
from workers.engines.registry import build

LAYER = "model.layers.0.self_attn"


@pytest.fixture
def model(llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama, tmp_path / "model"))


def add(path: Path, name: str, value: torch.Tensor | None = None) -> None:
    file = path / "model.safetensors"
    tensors = load_file(file) | {name: torch.ones(1) if value is None else value}
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize(
    "name",
    [
        f"{LAYER}.q_proj.weight_scale",
        f"{LAYER}.q_proj.weight_scale_inv",
        f"{LAYER}.q_proj.input_scale",
        f"{LAYER}.q_proj.weight_zero_point",
        f"{LAYER}.q_proj.qweight",
        f"{LAYER}.q_proj.qzeros",
        f"{LAYER}.q_proj.scales",
        f"{LAYER}.q_proj.g_idx",
        f"{LAYER}.q_proj.weight.absmax",
        f"{LAYER}.q_proj.weight.quant_state.bitsandbytes__nf4",
        f"{LAYER}.q_proj.weight.SCB",
        f"{LAYER}.q_proj.codebooks",
        f"{LAYER}.q_proj.lora_A.weight",
        f"{LAYER}.q_proj.bias",
        f"{LAYER}.q_norm.weight",
        "model.layers.7.self_attn.q_proj.weight",
        "model.embed_positions.weight",
        "lm_head.bias",
        f"{LAYER}.attn.bias",
    ],
)
def test_a_weight_that_belongs_to_the_model_is_not_left_out(model: Path, name: str) -> None:
    add(model, name)

    with pytest.raises(ConfigError, match="does not read") as error:
        build(text_spec(model)).load()

    assert name in error.value.detail


@pytest.mark.parametrize(
    "name",
    [
        f"{LAYER}.rotary_emb.inv_freq",
        f"{LAYER}.rotary_emb.cos_cached",
        f"{LAYER}.attn.masked_bias",
        "score.weight",
        "logit_scale",
        "v_head.summary.weight",
        "vision_tower.blocks.0.weight",
        "mtp.layers.0.weight",
    ],
)
def test_what_changes_no_text_may_be_left_out(model: Path, name: str) -> None:
    add(model, name)

    assert build(text_spec(model)).load().capacity


def test_masks_that_old_versions_wrote_down_may_be_left_out(tmp_path: Path) -> None:
    old = {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 400, "n_positions": 64}
    save_causal(tmp_path, "GPT2Config", **old)
    add(tmp_path, "h.0.attn.bias", torch.ones(1, 1, 8, 8).tril())
    add(tmp_path, "h.0.attn.masked_bias", torch.tensor(-1e4))
    assert build(text_spec(tmp_path)).load().capacity


def test_a_mask_is_told_from_a_bias_by_its_shape(model: Path) -> None:
    add(model, f"{LAYER}.attn.bias", torch.ones(1, 1, 8, 8).tril())

    assert build(text_spec(model)).load().capacity


def test_the_head_of_the_task_that_an_encoder_was_trained_for_may_be_left_out(
    bert: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(bert, tmp_path / "model"))
    add(path, "cls.predictions.transform.dense.weight")
    add(path, "some_other_head.weight")

    assert build(embedding_spec(path)).load().capacity


def test_a_scale_of_an_encoder_is_not_left_out(bert: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(bert, tmp_path / "model"))
    add(path, "encoder.layer.0.attention.self.query.weight_scale")

    with pytest.raises(ConfigError, match="does not read"):
        build(embedding_spec(path)).load()
