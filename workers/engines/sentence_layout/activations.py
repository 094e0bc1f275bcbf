"""The activation functions that a directory may name; nothing is imported by a name from a file.

Each is made without arguments, as sentence-transformers makes it, and works on each number alone, or on each
vector alone.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from shared.domain.errors import ConfigError

Activation = Callable[[torch.Tensor], torch.Tensor]

ELEMENTWISE = (
    "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "LeakyReLU",
    "LogSigmoid", "Mish", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink",
    "Softsign", "Tanh", "Tanhshrink",
)  # fmt: skip
OVER_A_VECTOR = ("LogSoftmax", "Softmax", "Softmin")
MODULES = ("torch.nn", "torch.nn.modules", "torch.nn.modules.activation", "torch.nn.modules.linear")


def activation(name: Any, place: str, *, vectors: bool = True) -> Activation:
    """The function of a dotted name such as `torch.nn.modules.activation.Tanh`.

    `vectors`: it gets one vector at a time. Raises `ConfigError` naming one that is not known.
    """
    module, _, kind = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    if module in MODULES:
        if kind in ELEMENTWISE:
            made: Activation = getattr(nn, kind)().eval()
            return made
        if kind in OVER_A_VECTOR and vectors:
            over: Activation = getattr(nn, kind)(dim=-1)
            return over
    known = ", ".join((*ELEMENTWISE, *(OVER_A_VECTOR if vectors else ())))
    raise ConfigError(
        f"{place}: activation {name!r} is not supported, only those of torch.nn: {known}"
    )
