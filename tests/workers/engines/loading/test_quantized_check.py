"""Kernels for quantised weights say what the dequantised weights say, or the model is refused at load."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from shared.domain.errors import ConfigError
from tests.engine_driver import drive
from tests.tiny_models import LLAMA, save_causal, text_spec
from workers.engines.base import Work
from workers.engines.loading.quantized_check import check_kernels
from workers.engines.registry import build

CPU = torch.device("cpu")
WIDE = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 64, "num_attention_heads": 2}
PACKAGES: dict[str, tuple[str, Callable[[], Any]]] = {
    "torchao int8": ("torchao", lambda: _torchao("Int8WeightOnlyConfig")),
    "torchao fp8": ("torchao", lambda: _torchao("Float8WeightOnlyConfig")),
    "torchao int8 activations": (
        "torchao",
        lambda: _torchao("Int8DynamicActivationInt8WeightConfig"),
    ),
    "bitsandbytes nf4": (
        "bitsandbytes",
        lambda: _bitsandbytes(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    ),
    "bitsandbytes int8": (
        "bitsandbytes",
        lambda: _bitsandbytes(load_in_8bit=True, llm_int8_threshold=0.0),
    ),
}


class Coded(torch.Tensor):
    """Weights in a form of their own: torch computes with `self`, and `meant` is what they stand for."""

    meant: torch.Tensor

    def dequantize(self) -> torch.Tensor:
        return self.meant


def _torchao(name: str) -> Any:
    import torchao.quantization
    from transformers import TorchAoConfig

    return TorchAoConfig(getattr(torchao.quantization, name)())


def _bitsandbytes(**options: Any) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(**options)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal(tmp_path_factory.mktemp("plain"), **(LLAMA | WIDE))


def coded(plain: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    model = AutoModelForCausalLM.from_pretrained(plain).eval()
    layer = model.model.layers[0].mlp.down_proj
    weight = layer.weight.detach().as_subclass(Coded)  # type: ignore[no-untyped-call]
    weight.meant = change(layer.weight.detach().clone())
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    layer.weight.meant = weight.meant
    return model


def test_a_plain_model_has_nothing_to_compare(plain: Path) -> None:
    assert check_kernels(AutoModelForCausalLM.from_pretrained(plain), CPU, "w") == 0


def test_kernels_that_read_weights_as_they_are_meant_pass(plain: Path) -> None:
    assert check_kernels(coded(plain, lambda weight: weight), CPU, "w") == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight * 3,
        lambda weight: weight.roll(1, 0),
        lambda weight: weight * torch.nan,
    ],
)
def test_kernels_that_read_something_else_are_refused(
    plain: Path, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    with pytest.raises(
        ConfigError, match="w: the kernels for its quantised weights are wrong here"
    ):
        check_kernels(coded(plain, change), CPU, "w")


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_checkpoint_of_a_package_that_is_installed_is_served(
    plain: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    package, config = PACKAGES[kind]
    pytest.importorskip(
        package, reason=f"SKIPPED FOR WANT OF {package.upper()}: pip install {package}"
    )
    model = AutoModelForCausalLM.from_pretrained(plain, quantization_config=config())
    model.save_pretrained(tmp_path / "model")
    for file in plain.glob("token*"):
        shutil.copy(file, tmp_path / "model")
    engine = build(text_spec(tmp_path / "model"))

    with caplog.at_level("INFO"):
        engine.load()

    # Seven layers of each of two blocks.
    assert f"14 layers run with kernels for {package}" in caplog.text
    works = [Work(str(n), "The quick brown fox"[n:], {"max_new_tokens": 12}, 1) for n in range(4)]
    together = drive(engine, works)
    assert [drive(engine, [work]).text(work.id) for work in works] == [
        together.text(work.id) for work in works
    ]
