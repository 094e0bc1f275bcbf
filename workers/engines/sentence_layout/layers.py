"""What sentence-transformers' modules do to vectors after, or to tokens before, pooling.

Reference: sentence-transformers 6.2, `base/modules/dense.py`, `normalize.py` and
`sentence_transformer/modules/layer_norm.py`. Numbers are float32, whatever the model's format is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn import functional

from shared.domain.errors import ConfigError
from workers.engines.loading.local_model import read_json
from workers.engines.sentence_layout.activations import Activation, activation
from workers.engines.sentence_layout.listing import Module
from workers.engines.sentence_layout.transformer_settings import check_keys

Level = Literal["token_embeddings", "sentence_embedding"]
LEVELS = ("token_embeddings", "sentence_embedding")
KINDS = ("Dense", "LayerNorm", "Normalize", "Dropout")
"""Dropout does nothing in a model that is not trained."""
WEIGHTS = "model.safetensors"


class Layer(Protocol):
    """One step of a vector. `level` says of what: of each token's, or of the whole text's."""

    @property
    def level(self) -> Level: ...

    def to(self, device: torch.device) -> None:
        """Move the weights."""

    def width(self, given: int) -> int:
        """Numbers of a vector that comes out where `given` go in. Raises `ValueError` for a wrong number."""

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """[n, given] to [n, width]"""


@dataclass(slots=True, eq=False)
class Dense:
    """A linear map and an activation, the input added again where `residual` says so."""

    level: Level
    weight: torch.Tensor
    bias: torch.Tensor | None
    activate: Activation
    residual: bool = False
    projected: torch.Tensor | None = None
    """Takes the input to the output's width for `residual`; None where the widths are equal."""

    def to(self, device: torch.device) -> None:
        self.weight = self.weight.to(device)
        self.bias = None if self.bias is None else self.bias.to(device)
        self.projected = None if self.projected is None else self.projected.to(device)

    def width(self, given: int) -> int:
        return _fits(self.weight.shape[1], given, self.weight.shape[0])

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        found = self.activate(functional.linear(vectors, self.weight, self.bias))
        if not self.residual:
            return found
        if self.projected is None:
            return found + vectors
        return found + functional.linear(vectors, self.projected)


@dataclass(slots=True, eq=False)
class LayerNorm:
    """torch.nn.LayerNorm with its default epsilon."""

    weight: torch.Tensor
    bias: torch.Tensor
    level: Level = "sentence_embedding"

    def to(self, device: torch.device) -> None:
        self.weight, self.bias = self.weight.to(device), self.bias.to(device)

    def width(self, given: int) -> int:
        return _fits(len(self.weight), given, given)

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(vectors, self.weight.shape, self.weight, self.bias)


@dataclass(slots=True, eq=False)
class Normalize:
    """Scales each vector to length 1."""

    level: Level = "sentence_embedding"

    def to(self, device: torch.device) -> None:
        """Nothing to move."""

    def width(self, given: int) -> int:
        return given

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        return functional.normalize(vectors, dim=-1)


def read_layer(module: Module, where: str) -> Layer | None:
    """The layer of a module of `KINDS`, None for Dropout. Raises `ConfigError` naming what is not done."""
    file = module.folder / "config.json"
    config, place = read_json(file, where), f"{where}: {file}"
    match module.kind:
        case "Dropout":
            return None
        case "Normalize":
            return Normalize(_level(config, place))
        case "LayerNorm":
            check_keys(config, ("dimension",), place)
            weights = _weights(module.folder, where, {"norm.weight", "norm.bias"})
            return LayerNorm(weights["norm.weight"], weights["norm.bias"])
        case _:
            return _dense(config, module.folder, place, where)


def _dense(config: dict[str, Any], folder: Path, place: str, where: str) -> Dense:
    known = ("in_features", "out_features", "bias", "activation_function", "use_residual")
    check_keys(config, (*known, "module_input_name", "module_output_name"), place)
    level = _level(config, place)
    name = config.get("activation_function", "torch.nn.Tanh")
    bias, residual = config.get("bias", True), config.get("use_residual", False)
    if not isinstance(bias, bool) or not isinstance(residual, bool):
        raise ConfigError(f"{place}: bias and use_residual must be true or false")
    projects = residual and config.get("in_features") != config.get("out_features")
    names = {"linear.weight": True, "linear.bias": bias, "residual.weight": projects}
    weights = _weights(folder, where, {name for name, there in names.items() if there})
    weight = weights["linear.weight"]
    said = (config.get("out_features"), config.get("in_features"))
    if weight.dim() != 2 or tuple(weight.shape) != said:
        raise ConfigError(f"{place}: in_features and out_features are not those of the weights")
    activate = activation(name, place, vectors=level == "sentence_embedding")
    return Dense(
        level,
        weight,
        weights.get("linear.bias"),
        activate,
        residual,
        weights.get("residual.weight"),
    )


def _level(config: Mapping[str, Any], place: str) -> Level:
    given = config.get("module_input_name", "sentence_embedding")
    made = config.get("module_output_name") or given
    for key, found in (("module_input_name", given), ("module_output_name", made)):
        if found not in LEVELS or found != given:
            raise ConfigError(
                f"{place}: {key} must be sentence_embedding or token_embeddings, the same for both, got"
                f" {found!r}"
            )
    return "token_embeddings" if given == "token_embeddings" else "sentence_embedding"


def _weights(folder: Path, where: str, names: set[str]) -> dict[str, torch.Tensor]:
    """The tensors of a module's file, which must be those and no more."""
    found = read_weights(folder, where)
    if set(found) != names:
        raise ConfigError(
            f"{where}: {folder / WEIGHTS} must hold {', '.join(sorted(names))}, got"
            f" {', '.join(sorted(found))}"
        )
    return {name: tensor.float() for name, tensor in found.items()}


def read_weights(folder: Path, where: str) -> dict[str, torch.Tensor]:
    """The tensors of a module's file. Raises `ConfigError` where there is none that may be read."""
    file = folder / WEIGHTS
    if not file.is_file():
        pickled = " Pickled weights are never loaded." if any(folder.glob("*.bin")) else ""
        raise ConfigError(f"{where}: there is no {file}.{pickled}")
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{where}: cannot load {file}: {error}") from None


def _fits(wanted: int, given: int, made: int) -> int:
    if wanted != given:
        raise ValueError(f"it takes vectors of {wanted} numbers, and gets {given}")
    return made
