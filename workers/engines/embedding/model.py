"""Loads what the embedding engine runs, as the model's directory says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.models.catalog import ModelSpec
from workers.engines.embedding.routes import Encoder, LoadedRoute, filler_token, final_width
from workers.engines.embedding.static import MeanOfRows, StaticReader, WeightOfTokens
from workers.engines.encoding.encoder import Model, choose_encoder
from workers.engines.encoding.encoder_family import encoder_class, plain_pooling, read_family
from workers.engines.encoding.segment_attention import Look
from workers.engines.encoding.text_reader import ChatForm, TextReader
from workers.engines.encoding.text_room import longest_text
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.loading.local_model import model_directory
from workers.engines.loading.placement import Placement, place
from workers.engines.loading.pretrained import read
from workers.engines.loading.text_lengths import position_table
from workers.engines.packed_attention import FAULTS
from workers.engines.sentence_layout.recipe import Recipe, Route, read_recipe


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A loaded model: its routes by name."""

    recipe: Recipe
    routes: dict[str, LoadedRoute]
    placement: Placement

    def route(self, task: str | None) -> str:
        """The name of the route of a task. Raises `InputRefused` for a task that none is for."""
        name = self.recipe.choose.name(task)
        if task is not None and set(self.routes) == {""}:
            return ""  # one way for every task
        if name is None:
            known = ", ".join(self.routes)
            raise InputRefused(f"params.task: this model has no way for {task!r}; it has: {known}.")
        return name

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has."""
        width = next(iter(self.routes.values())).width
        return min(width, self.recipe.model.truncate or width)

    @property
    def limit(self) -> int:
        """Tokens of the longest text that any route takes."""
        return max(route.limit for route in self.routes.values())


@torch.inference_mode()
def load_model(spec: ModelSpec) -> EmbeddingModel:
    """Read a model and find out how texts may share a step.

    Raises `ConfigError` naming the part of the directory that cannot be served.
    """
    where = f"models.{spec.name}.path"
    recipe = read_recipe(model_directory(spec), where)
    for route in recipe.routes.values():
        if route.kind == "transformer":
            # Before any weight is read.
            read_family(route.root, where)
    placement = place(spec)
    routes = {}
    for name, route in recipe.routes.items():
        for layer in (*route.token_layers, *route.layers):
            layer.to(placement.device)
        if route.kind == "transformer":
            routes[name] = _transformer(route, recipe, spec, placement, where)
        else:
            routes[name] = _static(route, spec, placement, where)
    widths = {route.width for route in routes.values()}
    if len(widths) > 1:
        raise ConfigError(f"{where}: its routes make vectors of different lengths: {widths}")
    return EmbeddingModel(recipe, routes, placement)


def _static(route: Route, spec: ModelSpec, placement: Placement, where: str) -> LoadedRoute:
    encoder: MeanOfRows | WeightOfTokens
    if route.kind == "static":
        encoder = MeanOfRows(route.root, where, placement.device)
        reader: Any = StaticReader(route.root, where)
        width = final_width(route, encoder.table.shape[1], 1)
        limit = spec.limits.max_prompt_tokens
    else:
        encoder = WeightOfTokens(route.root, where, placement.device)
        tokenizer = AutoTokenizer.from_pretrained(
            str(route.root), local_files_only=True, trust_remote_code=False
        )
        reader = TextReader(tokenizer, family="", special=False)
        width = len(encoder.table)
        limit = min(spec.limits.max_prompt_tokens, tokenizer.model_max_length)
    return LoadedRoute(
        route,
        reader,
        encoder,
        int(limit),
        len(encoder.table),
        width,
        placement.device,
        torch.float32,
    )


def _transformer(
    route: Route, recipe: Recipe, spec: ModelSpec, placement: Placement, where: str
) -> LoadedRoute:
    config = read_family(route.root, where)
    plain = not recipe.listed
    pooling = plain_pooling(config, route.root, where) if plain else route.pooling
    auto_model = AutoModelForMaskedLM if route.splade else encoder_class(config) or AutoModel
    tokenizer, model = read(auto_model, route.root, placement, where)
    reader, typed = _reader(route, recipe, tokenizer, config, where)
    try:
        vocabulary = int(model.get_input_embeddings().weight.shape[0])
        table = position_table(model, vocabulary, placement.device)
        limit = longest_text(
            spec.limits.max_prompt_tokens,
            None if plain else route.settings.max_tokens,
            tokenizer,
            model.config,
            table,
            library_cuts=not plain,
        )
        expansion = route.settings.expansion
        encoder, batching, reason = choose_encoder(
            Model(
                model,
                vocabulary,
                limit,
                tokenizer.pad_token_id or 0,
                placement.device,
                placement.dtype,
                first=table.first if table else 0,
                typed=typed,
                output=route.settings.output,
                hides=expansion is not None and not expansion.attend,
                look=_look(route, pooling),
            )
        )
        width = _token_width(encoder, vocabulary)
    except FAULTS as error:
        raise ConfigError(f"{where}: {route.root} is no encoder: {error}") from error
    return LoadedRoute(
        route,
        reader,
        encoder,
        limit,
        vocabulary,
        final_width(route, width, len(pooling) or 1),
        placement.device,
        placement.dtype,
        pooling,
        filler_token(tokenizer, expansion, f"{where}: {route.root}"),
        route.mask.skipped(tokenizer) if route.mask else frozenset(),
        batching,
        reason,
    )


def _look(route: Route, pooling: Sequence[str]) -> Look:
    """The token that pooling takes, of a model that takes the same one of every text."""
    if route.form != "dense":
        return "all"
    if tuple(pooling) == ("cls",) and route.include_prompt:
        return "first"
    return "last" if tuple(pooling) == ("lasttoken",) else "all"


def _token_width(encoder: Encoder, vocabulary: int) -> int:
    return int(encoder.encode([TokenizedText([vocabulary - 1])])[0].shape[-1])


def _reader(
    route: Route, recipe: Recipe, tokenizer: Any, config: Any, where: str
) -> tuple[TextReader, bool]:
    """The reader of texts, and whether it gives token type ids.

    Raises `ConfigError` where the model's own prompt or chat template cannot be used.
    """
    chat = route.settings.chat
    if not recipe.listed and tokenizer.chat_template:
        # sentence-transformers makes a chat of every text where no modules.json says otherwise.
        chat = ChatForm()
    try:
        reader = TextReader(
            tokenizer,
            family=config.model_type,
            chat=chat,
            lower=route.settings.lower,
            skip_prompt=not route.include_prompt,
        )
        tried = reader.read(["a"], recipe.model.prompt(None))
    except (ConfigError, InputRefused) as error:
        raise ConfigError(f"{where}: {route.root}: {error}") from None
    return reader, tried[0].types is not None
