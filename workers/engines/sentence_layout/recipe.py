"""Reads how a directory wants texts turned into vectors, from sentence-transformers' file layout.

Every key that changes a vector is honoured, or refused by the name of file and key. The reference is what
sentence-transformers 6.2 computes: https://sbert.net/docs/package_reference/sentence_transformer/models.html
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shared.domain.errors import ConfigError
from workers.engines.loading.local_model import check_directory, read_json
from workers.engines.sentence_layout.layers import KINDS, Layer, Normalize, read_layer
from workers.engines.sentence_layout.listing import (
    ROUTERS,
    Module,
    Routes,
    list_modules,
    read_routes,
)
from workers.engines.sentence_layout.model_settings import ModelSettings, read_model_settings
from workers.engines.sentence_layout.pooling import MODES
from workers.engines.sentence_layout.sparse import Splade
from workers.engines.sentence_layout.token_mask import TokenMask
from workers.engines.sentence_layout.transformer_settings import (
    FILES,
    TransformerSettings,
    check_keys,
    read_settings,
)

LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""In the order in which several are put one behind the other."""
LAYOUT = ("config_sentence_transformers.json", "1_Pooling", *FILES)
"""Files that mean nothing without a modules.json."""
MODELS = ("SentenceTransformer", "SparseEncoder", "MultiVectorEncoder")
TRANSFORMERS = {"Transformer": "feature-extraction", "MLMTransformer": "fill-mask"}
STATIC = ("StaticEmbedding", "SparseStaticEmbedding")
POOLINGS = ("Pooling", "SpladePooling", "MultiVectorMask")
ORDER = (
    "Transformer, layers of tokens, one of Pooling, SpladePooling and MultiVectorMask, and then Normalize,"
    " Dropout, Dense and LayerNorm; or StaticEmbedding, or Router, and those after it"
)

Kind = Literal["transformer", "static", "sparse static"]
Form = Literal["dense", "sparse", "multi-vector"]


@dataclass(frozen=True, slots=True)
class Route:
    """How texts become vectors. `root` holds the transformer, or the table of a static model.

    A transformer has one of `pooling`, `splade` and `mask`; with none its kind decides. `token_layers` come
    before it, `layers` after it; `normalize`: a last layer makes the length 1. `include_prompt`: pooling
    counts the tokens of a prompt.
    """

    root: Path
    kind: Kind = "transformer"
    settings: TransformerSettings = field(default_factory=TransformerSettings)
    token_layers: tuple[Layer, ...] = ()
    pooling: tuple[str, ...] = ()
    splade: Splade | None = None
    mask: TokenMask | None = None
    layers: tuple[Layer, ...] = ()
    normalize: bool = False
    include_prompt: bool = True

    @property
    def form(self) -> Form:
        if self.splade is not None or self.kind == "sparse static":
            return "sparse"
        return "multi-vector" if self.mask is not None else "dense"


@dataclass(frozen=True, slots=True)
class Recipe:
    """`routes` by name, of which `choose` says whose a task is. `listed`: a modules.json says so."""

    routes: Mapping[str, Route]
    choose: Routes
    model: ModelSettings = field(default_factory=ModelSettings)
    listed: bool = True

    @property
    def form(self) -> Form:
        return next(iter(self.routes.values())).form


def read_recipe(path: Path, where: str) -> Recipe:
    """The recipe of a model directory.

    Raises `ConfigError` for what this engine does not do, naming the file and the key.
    """
    if not (path / "modules.json").exists():
        _refuse_half_a_layout(path, where)
        check_directory(path, where)
        only = Routes({"": ()}, "")
        return Recipe({"": Route(path)}, only, ModelSettings(), listed=False)
    model = read_model_settings(path, where, MODELS)
    first, *rest = list_modules(path, where)
    if first.kind in ROUTERS:
        routes = read_routes(first, path, where)
    else:
        routes = Routes({"": [first, *rest]}, "")
        rest = []
    place = f"{where}: {path / 'modules.json'}"
    made = {
        name: _route([*modules, *rest], place, where) for name, modules in routes.reached().items()
    }
    forms = {route.form for route in made.values()}
    if len(forms) > 1:
        raise ConfigError(f"{place}: its routes make vectors of several kinds: {', '.join(forms)}")
    wanted = {"sparse": "SparseEncoder", "multi-vector": "MultiVectorEncoder"}
    form = next(iter(forms))
    if model.kind != wanted.get(form, "SentenceTransformer"):
        raise ConfigError(
            f"{place}: its modules make {form} vectors, its model_type is {model.kind}"
        )
    return Recipe(made, routes, model)


def _refuse_half_a_layout(path: Path, where: str) -> None:
    found = [name for name in LAYOUT if (path / name).exists()]
    if found:
        raise ConfigError(
            f"{where}: {path} has {', '.join(found)} and no modules.json, without which they count for"
            " nothing; fetch the whole model"
        )


def _route(modules: Sequence[Module], place: str, where: str) -> Route:
    first, *rest = modules
    found = _refusal(place, modules)
    if any(module.kind not in (*KINDS, *POOLINGS) for module in rest):
        raise found
    if first.kind in STATIC:
        layers = [read_layer(module, where) for module in rest if module.kind in KINDS]
        if len(layers) < len(rest):
            raise found
        kind: Kind = "static" if first.kind == "StaticEmbedding" else "sparse static"
        if kind == "sparse static" and rest:
            raise found
        return Route(first.folder, kind, **_after(layers, found))
    if first.kind not in TRANSFORMERS:
        raise found
    return _transformer(first, rest, found, where)


def _transformer(first: Module, rest: Sequence[Module], found: ConfigError, where: str) -> Route:
    place = next((n for n, module in enumerate(rest) if module.kind in POOLINGS), None)
    if place is None:
        raise found
    before, pooling, after = rest[:place], rest[place], rest[place + 1 :]
    if any(module.kind in POOLINGS for module in after):
        raise found
    check_directory(first.folder, where)
    token_layers = [layer for module in before if (layer := read_layer(module, where)) is not None]
    layers = [read_layer(module, where) for module in after]
    if any(layer.level != "token_embeddings" for layer in token_layers):
        raise found
    task = "fill-mask" if pooling.kind == "SpladePooling" else TRANSFORMERS[first.kind]
    shared: dict[str, Any] = {
        "settings": read_settings(first.folder, where, task),
        "token_layers": tuple(token_layers),
    }
    if shared["settings"].expansion is not None and pooling.kind != "MultiVectorMask":
        raise ConfigError(
            f"{where}: {first.folder}: query_expansion is supported before a MultiVectorMask alone, not"
            f" before {pooling.kind}"
        )
    if pooling.kind == "SpladePooling":
        if token_layers or after:
            raise found
        return Route(first.folder, splade=Splade.read(pooling.folder, where), **shared)
    if pooling.kind == "MultiVectorMask":
        # A mask leaves tokens out, so layers of tokens may stand on either side of it.
        if any(layer is not None and layer.level != "token_embeddings" for layer in layers):
            raise found
        shared["token_layers"] += tuple(layer for layer in layers if layer is not None)
        return Route(first.folder, mask=TokenMask.read(pooling.folder, where), **shared)
    modes, include_prompt = _pooling(pooling.folder, where)
    return Route(
        first.folder,
        pooling=modes,
        include_prompt=include_prompt,
        **shared,
        **_after(layers, found),
    )


def _after(layers: Sequence[Layer | None], found: ConfigError) -> dict[str, Any]:
    """What comes after pooling; a job may do without a last Normalize."""
    made = [layer for layer in layers if layer is not None]
    if any(layer.level != "sentence_embedding" for layer in made):
        raise found
    normalize = bool(made) and isinstance(made[-1], Normalize)
    while made and isinstance(made[-1], Normalize):
        made.pop()
    return {"layers": tuple(made), "normalize": normalize}


def _refusal(place: str, modules: Sequence[Module]) -> ConfigError:
    kinds = ", ".join(module.kind for module in modules)
    return ConfigError(f"{place} must list {ORDER}; got {kinds}")


def _pooling(folder: Path, where: str) -> tuple[tuple[str, ...], bool]:
    """The modes of Pooling, and whether a prompt's tokens count."""
    file = folder / "config.json"
    if not file.exists():
        raise ConfigError(f"{where}: there is no {file}")
    config = read_json(file, where)
    known = {"pooling_mode", "include_prompt", "embedding_dimension", "word_embedding_dimension"}
    check_keys(config, known.union(LEGACY_MODES), f"{where}: {file}")
    named = config.get("pooling_mode")
    if named is None:
        named = [mode for key, mode in LEGACY_MODES.items() if config.get(key)] or "mean"
    modes: Sequence[Any] = [named] if isinstance(named, str) else named
    if not isinstance(modes, list) or not modes or any(mode not in list(MODES) for mode in modes):
        raise ConfigError(
            f"{where}: {file}: pooling_mode {named!r} is not supported, only {', '.join(MODES)}"
        )
    return tuple(modes), bool(config.get("include_prompt", True))
