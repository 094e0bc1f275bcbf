"""Compares a model that computes with quantised weights with the same weights dequantised: logits, at load.

Kernels of packages are chosen by device, shape and number format. One that reads a layout in another way
than it was written gives numbers all the same.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from shared.domain.errors import ConfigError

TOKENS = 12
MOST_OFF = 0.25
"""Standard deviations of the logits. Weights in eight bits are off by 1e-6, activations in eight bits by 0.05
(tests/workers/engines/loading/test_quantized_check.py); a layout that is misread by more than 1.
"""

Dequantise = Callable[[], torch.Tensor]


def check_kernels(model: Any, device: torch.device, where: str) -> int:
    """How many layers were compared; 0 for a model whose weights are plain.

    Raises `ConfigError` where the kernels compute something else than the weights say.
    """
    layers = {
        module: dequantise
        for module in model.modules()
        if (dequantise := _dequantiser(module)) is not None
    }
    if not layers:
        return 0
    vocabulary = int(model.get_input_embeddings().num_embeddings)
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(vocabulary, (1, TOKENS), generator=generator).to(device)
    plainly = [Plainly(layer, dequantise) for layer, dequantise in layers.items()]
    with torch.inference_mode():
        # First: a kernel may lay its weights out in another way when it runs for the first time.
        right = model(input_ids=ids, use_cache=False).logits[0].float()
        for each in plainly:
            each.remove()
        said = model(input_ids=ids, use_cache=False).logits[0].float()
    errors = (said - right).pow(2).mean(-1).sqrt() / right.std(-1).clamp_min(1e-6)
    # Rounding may send a token to another expert: the median of all positions.
    off = float(errors.median())
    if not off <= MOST_OFF:
        raise ConfigError(
            f"{where}: the kernels for its quantised weights are wrong here, its logits are off by {off:.2g}"
            " standard deviations from those of the dequantised ones; take a checkpoint that is not quantised"
        )
    return len(layers)


class Plainly:
    """Makes a layer compute with its weights in full precision, which are there for this moment alone."""

    def __init__(self, layer: nn.Module, dequantise: Dequantise) -> None:
        self._dequantise = dequantise
        self._weight: torch.Tensor | None = None
        self._hooks = (
            layer.register_forward_pre_hook(self._before),
            layer.register_forward_hook(self._after),
        )

    def remove(self) -> None:
        """Let the layer compute as it does."""
        for hook in self._hooks:
            hook.remove()

    def _before(self, _layer: nn.Module, _args: tuple[Any, ...]) -> None:
        self._weight = self._dequantise()

    def _after(self, layer: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        given: torch.Tensor = args[0]
        assert self._weight is not None
        weight, self._weight = self._weight.to(given.dtype), None
        bias = getattr(layer, "bias", None)
        plain = functional.linear(given, weight, None if bias is None else bias.to(given.dtype))
        return plain.to(output.dtype)


def _dequantiser(module: nn.Module) -> Dequantise | None:
    """What gives a linear layer's weights, [out, in], in full precision; None where they are plain."""
    weight = module._parameters.get("weight")
    if weight is None or not isinstance(module, nn.Linear):
        return None
    if type(weight).__module__.startswith("bitsandbytes."):
        from transformers.integrations.bitsandbytes import dequantize_bnb_weight

        return lambda: dequantize_bnb_weight(weight, getattr(module, "state", None))
    if type(weight).dequantize is not torch.Tensor.dequantize:
        # A subclass of tensors, as torchao's.
        return lambda: torch.as_tensor(weight.dequantize())
    return None
