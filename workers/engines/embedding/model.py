"""Loads what the embedding engine runs: tokenizer, transformer and pooling as the model's directory says."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModel

from shared.domain.catalog import ModelSpec
from shared.domain.errors import ConfigError, InputRefused
from workers.engines.embedding.encoder import Encoder, Model, choose_encoder
from workers.engines.embedding.encoder_family import plain_pooling, read_family
from workers.engines.embedding.sentence_recipe import Recipe, read_recipe
from workers.engines.embedding.sentence_text import ChatForm, TextReader
from workers.engines.loading.local_model import model_directory
from workers.engines.loading.placement import Placement, place
from workers.engines.loading.pretrained import read
from workers.engines.loading.text_lengths import PositionTable, position_table, rotary_room
from workers.engines.packed_attention import FAULTS


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A loaded model. `limit` is its longest text in tokens; `batching` how texts share a forward pass, and
    `reason` why they are not packed."""

    recipe: Recipe
    pooling: tuple[str, ...]
    reader: TextReader
    encoder: Encoder
    batching: str
    reason: str
    limit: int
    vocabulary: int
    placement: Placement

    def prompt(self, name: str | None) -> str:
        """What stands before each text; `name` is one of the model's prompts, None for its default."""
        return find_prompt(self.recipe, name)


def find_prompt(recipe: Recipe, name: str | None) -> str:
    """The prompt of a name. Raises `InputRefused` for one that the model does not have."""
    name = recipe.default_prompt if name is None else name
    if name is None:
        return ""
    if name not in recipe.prompts:
        known = ", ".join(recipe.prompts) or "none"
        raise InputRefused(f"This model has no prompt named {name!r}; it has: {known}.")
    return recipe.prompts[name]


@torch.inference_mode()
def load_model(spec: ModelSpec) -> EmbeddingModel:
    """Read a model and find out how many texts may share a step.

    Raises `ConfigError` naming the part of the directory that cannot be served.
    """
    where = f"models.{spec.name}.path"
    recipe = read_recipe(model_directory(spec), where)
    config = read_family(recipe.root, where)
    pooling = recipe.pooling or plain_pooling(config, recipe.root, where)
    placement = place(spec)
    tokenizer, model = read(AutoModel, recipe.root, placement, where)
    reader, typed = _reader(recipe, tokenizer, config, where)
    pad = tokenizer.pad_token_id or 0
    try:
        vocabulary = int(model.get_input_embeddings().weight.shape[0])
        table = position_table(model, vocabulary, placement.device)
        limit = _longest(spec, recipe, tokenizer, model.config, table)
        encoder, batching, reason = choose_encoder(
            Model(
                model,
                vocabulary,
                limit,
                pad,
                placement.device,
                placement.dtype,
                first=table.first if table else 0,
                typed=typed,
            )
        )
    except FAULTS as error:
        raise ConfigError(f"{where}: {recipe.root} is no encoder: {error}") from error
    return EmbeddingModel(
        recipe, pooling, reader, encoder, batching, reason, limit, vocabulary, placement
    )


def _reader(recipe: Recipe, tokenizer: Any, config: Any, where: str) -> tuple[TextReader, bool]:
    """The reader of texts, and whether it gives token type ids.

    Raises `ConfigError` where the model's own prompt or chat template cannot be used.
    """
    chat = recipe.settings.chat
    if not recipe.pooling and tokenizer.chat_template:
        # sentence-transformers makes a chat of every text where no modules.json says otherwise.
        chat = ChatForm()
    try:
        reader = TextReader(
            tokenizer,
            family=config.model_type,
            chat=chat,
            lower=recipe.settings.lower,
            skip_prompt=not recipe.include_prompt,
        )
        tried = reader.read(["a"], find_prompt(recipe, None))
    except (ConfigError, InputRefused) as error:
        raise ConfigError(f"{where}: {recipe.root}: {error}") from None
    return reader, tried[0].types is not None


def _longest(
    spec: ModelSpec, recipe: Recipe, tokenizer: Any, config: Any, table: PositionTable | None
) -> int:
    """Tokens of one text, special ones included: what nobody would cut and the model has room for."""
    own = recipe.settings.max_tokens
    trained = getattr(config, "max_position_embeddings", None) or 0
    bounds = [
        spec.limits.max_prompt_tokens,
        own or tokenizer.model_max_length,
        table.room if table else rotary_room(config),
    ]
    if recipe.pooling and not own and trained > 0:
        # There sentence-transformers cuts, even where a stretched context is longer.
        bounds.append(trained)
    return min(bound for bound in bounds if bound)
