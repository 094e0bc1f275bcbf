"""What is not plain LoRA for this base is refused, in a sentence that names the part."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from shared.domain.errors import ConfigError
from tests.tiny_adapters import edit_config, save_adapter
from tests.tiny_models import LLAMA, save_causal
from workers.engines.loading.lora_file import LARGEST_RANK, read_lora

WEIGHTS = "adapter_model.safetensors"
Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("base"), **LLAMA)


@pytest.fixture(scope="module")
def model(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base)


@pytest.fixture(scope="module")
def good(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(base, tmp_path_factory.mktemp("good"))


@pytest.fixture
def adapter(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "a"))


def edit_weights(adapter: Path, **changed: torch.Tensor | None) -> None:
    tensors: dict[str, Any] = dict(load_file(adapter / WEIGHTS))
    tensors.update(changed)
    save_file({name: t for name, t in tensors.items() if t is not None}, adapter / WEIGHTS)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"peft_type": "IA3"}, "it is a IA3 adapter; LoRA alone is served"),
        ({"task_type": "SEQ_CLS"}, "it was made for SEQ_CLS"),
        ({"use_dora": True}, "it uses use_dora"),
        ({"bias": "lora_only"}, "it has biases (bias: lora_only)"),
        ({"lora_bias": True}, "it uses lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "it uses modules_to_save"),
        ({"trainable_token_indices": [1]}, "it uses trainable_token_indices"),
        ({"target_parameters": ["mlp.experts"]}, "it uses target_parameters"),
        ({"layer_replication": [[0, 2]]}, "it uses layer_replication"),
        ({"alora_invocation_tokens": [3]}, "it uses alora_invocation_tokens"),
        ({"something_of_next_year": {"on": 1}}, "it uses something_of_next_year"),
        (
            {"init_lora_weights": "pissa_niter_4"},
            "init_lora_weights 'pissa_niter_4' changes the base",
        ),
        ({"init_lora_weights": "loftq"}, "init_lora_weights 'loftq' changes the base"),
        ({"target_modules": None}, "its target_modules do not say"),
        (
            {"target_modules": ["q_proj", "v_proj", "down_proj", "lm_head"]},
            "it changes lm_head; only",
        ),
        (
            {"target_modules": ["q_proj", "v_proj", "down_proj", "mlp"]},
            "mlp, a LlamaMLP; only linear",
        ),
        ({"target_modules": ["q_proj"]}, "which is no linear layer that its target_modules name"),
        ({"target_modules": "(("}, "adapter_config.json cannot be read"),
        (
            {"target_modules": ["q_proj", "v_proj", "down_proj", "k_proj"]},
            "names 2 layers of the base that adapter_model.safetensors has nothing for, as"
            " model.layers.0.self_attn.k_proj",
        ),
        ({"r": 5}, "has shapes (4, 128) and (64, 4), its base takes (5, 128) and (64, 5)"),
    ],
)
def test_what_is_not_plain_lora_is_refused(
    adapter: Path, model: Any, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        read_lora(edit_config(adapter, **fields), model, "models.x.adapter")

    assert said in refused.value.detail
    assert refused.value.detail.startswith("models.x.adapter: ")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({Q: None}, "layers.0.self_attn.q_proj has lora_B alone"),
        ({Q: torch.zeros(4, 32)}, "it was made for another base model"),
        ({Q: torch.full((4, 64), float("nan"))}, "holds numbers that are none"),
        (
            {Q.replace("layers.0", "layers.7"): torch.zeros(4, 64)},
            "which LlamaForCausalLM does not have",
        ),
        (
            {Q.replace("lora_A.", "lora_magnitude_vector."): torch.zeros(4)},
            "no matrix of a linear layer",
        ),
        (
            {"base_model.model.model.embed_tokens.lora_embedding_A": torch.zeros(4, 9)},
            "no matrix of a",
        ),
        ({Q: torch.zeros(4, 64, dtype=torch.int8)}, "no matrix of a linear layer"),
    ],
)
def test_weights_that_do_not_belong_are_refused(
    adapter: Path, model: Any, changed: dict[str, torch.Tensor | None], said: str
) -> None:
    edit_weights(adapter, **changed)

    with pytest.raises(ConfigError) as refused:
        read_lora(adapter, model, "models.x.adapter")

    assert said in refused.value.detail


def test_a_pickle_is_never_loaded(adapter: Path, model: Any) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")

    with pytest.raises(ConfigError, match=r"adapter_model\.bin is a pickle, which is never loaded"):
        read_lora(adapter, model, "w")
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(ConfigError, match=r"has no adapter_config\.json"):
        read_lora(adapter, model, "w")


def test_a_rank_has_a_bound(base: Path, model: Any, tmp_path: Path) -> None:
    large = save_adapter(base, tmp_path / "large", r=LARGEST_RANK + 1, target_modules=["q_proj"])

    with pytest.raises(ConfigError, match=f"its rank is {LARGEST_RANK + 1}; adapters of up to"):
        read_lora(large, model, "w")


def test_an_adapter_of_a_model_of_several_senses_finds_its_language_part(
    adapter: Path, model: Any
) -> None:
    tensors = load_file(adapter / WEIGHTS)
    there = {
        name.replace("model.model.", "model.model.language_model."): tensor
        for name, tensor in tensors.items()
    }
    save_file(there, adapter / WEIGHTS)
    edit_config(adapter, target_modules=r"model\.language_model\..*\.(q_proj|v_proj|down_proj)")

    lora = read_lora(adapter, model, "w")

    assert sorted(lora.layers)[0] == "model.layers.0.mlp.down_proj"
    assert len(lora.layers) == 6
