"""Quantised weights are read with their scales or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from shared.domain.errors import ConfigError
from tests.tiny_models import LLAMA, save_causal, text_spec
from workers.engines.loading.fit import headers, needed, weight_bytes
from workers.engines.loading.placement import Placement
from workers.engines.loading.pretrained import read
from workers.engines.registry import build

BLOCK = 128
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 64, "num_attention_heads": 2}
    return save_causal(tmp_path_factory.mktemp("plain"), **(LLAMA | sizes))


@pytest.fixture(scope="session")
def fp8(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of every linear layer in eight bits, with a scale a block."""
    path = Path(shutil.copytree(plain, tmp_path_factory.mktemp("fp8") / "model"))
    weights = {}
    for name, weight in load_file(path / "model.safetensors").items():
        if "proj" not in name:
            weights[name] = weight
            continue
        blocks = weight.unfold(0, BLOCK, BLOCK).unfold(1, BLOCK, BLOCK)
        scales = blocks.abs().amax((-1, -2)) / 448
        wide = scales.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
        weights[name] = (weight / wide).to(torch.float8_e4m3fn)
        weights[f"{name}_scale_inv"] = scales
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    configure(path, quantization_config=FP8)
    return path


@pytest.fixture
def model(fp8: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fp8, tmp_path / "model"))


def configure(path: Path, **fields: Any) -> None:
    file = path / "config.json"
    kept = {n: v for n, v in (json.loads(file.read_text()) | fields).items() if v is not None}
    file.write_text(json.dumps(kept))


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        build(text_spec(path)).load()
    return error.value.detail


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fp8_is_read_with_its_scales_in_one_number_format(
    fp8: Path, plain: Path, dtype: torch.dtype
) -> None:
    _, found = read(AutoModelForCausalLM, fp8, Placement(torch.device("cpu"), dtype), "here")
    original = AutoModelForCausalLM.from_pretrained(plain).state_dict()

    assert {parameter.dtype for parameter in found.parameters()} == {dtype}
    for name, weight in found.state_dict().items():
        assert torch.allclose(weight.float(), original[name], rtol=0.07, atol=0.01), name


def test_the_fit_counts_what_fp8_becomes(
    fp8: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = sum(weight_bytes(tensors, 4) for _, tensors in headers(fp8, "here"))
    loaded = needed(plain, 4, 0, "here").weights
    assert stored < 0.7 * loaded
    monkeypatch.setattr(Placement, "room", lambda *_: (stored + loaded) // 2)

    assert "the model needs" in refusal(fp8)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "modelopt"),
        ({"quant_method": "turbo4"}, "turbo4"),
        ({"quant_algo": "NVFP4"}, "quant_algo NVFP4"),
        ({"group_size": 64, "bits": 4}, "bits 4"),
    ],
)
def test_an_unknown_method_is_refused_by_its_name(
    model: Path, said: dict[str, Any], name: str
) -> None:
    configure(model, quantization_config=said)

    assert f"is quantised by {name}, which transformers does not read" in refusal(model)


def test_a_known_method_whose_package_is_missing_is_named(model: Path) -> None:
    configure(model, quantization_config={"quant_method": "gptq", "bits": 4})

    said = refusal(model)
    assert "is quantised by gptq, which cannot be read here" in said
    assert (
        "or take a checkpoint that is not quantised, or by fp8, mxfp4 or compressed-tensors" in said
    )


def test_eight_bits_that_depend_on_the_whole_batch_are_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantizer = "transformers.quantizers.quantizer_bnb_8bit.Bnb8BitHfQuantizer"
    monkeypatch.setattr(f"{quantizer}.validate_environment", lambda *_, **__: None)
    configure(model, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})

    assert "llm_int8_threshold 6, by which the texts of a batch change one another" in refusal(
        model
    )


@pytest.mark.parametrize(
    ("file", "said", "name"),
    [
        (
            "hf_quant_config.json",
            {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}},
            "modelopt, quant_algo FP8",
        ),
        ("quantize_config.json", {"bits": 4, "group_size": 128}, "bits 4"),
        ("quant_config.json", {"w_bit": 4, "zero_point": True}, "w_bit 4"),
    ],
)
def test_a_method_that_stands_in_a_file_of_its_own_is_refused(
    model: Path, file: str, said: dict[str, Any], name: str
) -> None:
    configure(model, quantization_config=None)
    (model / file).write_text(json.dumps(said))

    found = refusal(model)

    assert f"is quantised by {name}" in found
    assert file in found


@pytest.mark.parametrize("key", ["compression_config", "quantization"])
def test_other_keys_for_a_method_are_refused(model: Path, key: str) -> None:
    configure(model, quantization_config=None, **{key: {"bits": 4}})

    assert f"bits 4 ({key} in config.json)" in refusal(model)


def test_eight_bit_weights_that_nothing_explains_are_refused(model: Path) -> None:
    configure(model, quantization_config=None)

    assert "is stored as F8_E4M3, and no quantization_config" in refusal(model)


SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {
    "int8": ("int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}),
    "fp8": ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}),
    "int4": (
        "pack-quantized",
        {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32},
    ),
}


def compressed(name: str, weight: torch.Tensor, kind: str) -> dict[str, torch.Tensor]:
    """A layer's tensors as compressed-tensors stores them."""
    from compressed_tensors.compressors import pack_to_int32

    if kind == "int4":
        groups = weight.reshape(len(weight), -1, 32)
        scales = groups.abs().amax(-1) / 7
        whole = (groups / scales[..., None]).round().to(torch.int8).reshape(weight.shape)
        return {
            f"{name}_packed": pack_to_int32(whole, 4),
            f"{name}_scale": scales,
            f"{name}_shape": torch.tensor(weight.shape),
        }
    most, dtype = (127, torch.int8) if kind == "int8" else (448, torch.float8_e4m3fn)
    scales = weight.abs().amax(1, keepdim=True) / most
    whole = weight / scales
    return {
        name: (whole.round() if kind == "int8" else whole).to(dtype),
        f"{name}_scale": scales,
    }


@pytest.mark.parametrize(("kind", "off"), [("int8", 0.02), ("fp8", 0.16), ("int4", 0.35)])
def test_compressed_tensors_are_read_with_their_scales(
    plain: Path, tmp_path: Path, kind: str, off: float
) -> None:
    path = Path(shutil.copytree(plain, tmp_path / kind))
    weights = {}
    original = load_file(path / "model.safetensors")
    for name, weight in original.items():
        weights |= compressed(name, weight, kind) if "proj" in name else {name: weight}
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    layout, numbers = SCHEMES[kind]
    group = {"targets": ["Linear"], "weights": numbers | {"symmetric": True}}
    said = {"quant_method": "compressed-tensors", "format": layout, "ignore": ["lm_head"]}
    configure(path, quantization_config=said | {"config_groups": {"group_0": group}})

    _, found = read(AutoModelForCausalLM, path, Placement(torch.device("cpu"), torch.float32), "w")

    for name, weight in original.items():
        right = found.state_dict()[name]
        assert (right - weight).abs().max() <= off * weight.std(), name


FOUR_BITS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""The numbers of MXFP4 (E2M1); the same below zero."""


def test_mxfp4_is_read_with_its_scales(tmp_path: Path) -> None:
    path = save_causal(
        tmp_path,
        "GptOssConfig",
        **LLAMA
        | {"head_dim": 16, "intermediate_size": 64, "num_local_experts": 2}
        | {"num_experts_per_tok": 1, "num_hidden_layers": 1},
    )
    weights = load_file(path / "model.safetensors")
    meant: dict[str, torch.Tensor] = {}
    table = torch.tensor([*FOUR_BITS, *(-number for number in FOUR_BITS)])
    for name in [name for name in weights if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, width, height = weights.pop(name).shape
        codes = torch.randint(16, (experts, height, width // 32, 32), dtype=torch.uint8)
        scales = torch.randint(120, 124, (experts, height, width // 32), dtype=torch.uint8)
        weights[f"{name}_blocks"] = codes[..., ::2] | (codes[..., 1::2] << 4)
        weights[f"{name}_scales"] = scales
        numbers = table[codes.long()] * torch.exp2(scales.float() - 127)[..., None]
        meant[name] = numbers.reshape(experts, height, width).transpose(1, 2)
    save_file(weights, path / "model.safetensors", {"format": "pt"})
    configure(path, quantization_config={"quant_method": "mxfp4"})

    _, found = read(AutoModelForCausalLM, path, Placement(torch.device("cpu"), torch.float32), "w")

    assert len(meant) == 2
    for name, right in meant.items():
        assert torch.equal(found.state_dict()[name], right), name
