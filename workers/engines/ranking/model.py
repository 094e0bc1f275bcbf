"""Loads what the ranking engine runs, as the model's directory says."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.models.catalog import ModelSpec
from workers.engines.encoding.encoder import Model
from workers.engines.encoding.text_reader import ChatForm, TextReader
from workers.engines.encoding.text_room import longest_text
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.loading.local_model import model_directory
from workers.engines.loading.placement import Placement, place
from workers.engines.loading.pretrained import read
from workers.engines.loading.text_lengths import position_table
from workers.engines.packed_attention import FAULTS
from workers.engines.ranking.recipe import (
    Recipe,
    Verdict,
    activation_name,
    auto_class,
    read_recipe,
    yes_and_no,
)
from workers.engines.ranking.scorers import Scorer, choose_scorer
from workers.engines.sentence_layout.activations import Activation, activation

ASKED = {
    "none": torch.nn.Identity(),
    "sigmoid": torch.nn.Sigmoid(),
    "softmax": torch.nn.Softmax(dim=-1),
}
"""What a job may have its scores put through, instead of the model's own."""


@dataclass(frozen=True, slots=True)
class RankingModel:
    """`labels` by their place in a row of scores; one that has one label ranks. `own` is its activation."""

    recipe: Recipe
    reader: TextReader
    scorer: Scorer
    limit: int
    vocabulary: int
    labels: tuple[str, ...]
    own: Activation
    own_name: str
    verdict: Verdict | None
    placement: Placement
    batching: str
    reason: str

    def score(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
        """n texts or pairs to n rows [labels], before any activation."""
        rows = self.scorer.score(texts)
        verdict = self.verdict
        if verdict is None:
            return rows
        if verdict.false is None:
            return [row[[verdict.true]] for row in rows]
        return [row[[verdict.true]] - row[[verdict.false]] for row in rows]

    def activated(self, rows: torch.Tensor, asked: str | None) -> torch.Tensor:
        """[n, labels] of logits to scores, as a job asks for or the model says."""
        return ASKED[asked](rows) if asked is not None else self.own(rows)


@torch.inference_mode()
def load_model(spec: ModelSpec) -> RankingModel:
    """Read a model and find out how pairs may share a step.

    Raises `ConfigError` naming the part of the directory that cannot be served.
    """
    where = f"models.{spec.name}.path"
    recipe = read_recipe(model_directory(spec), where)
    placement = place(spec)
    tokenizer, model = read(auto_class(recipe), recipe.root, placement, where)
    verdict = recipe.verdict
    if verdict is not None and verdict.true is None:
        verdict = yes_and_no(tokenizer, f"{where}: {recipe.root}")
    labels = ("score",) if verdict else _labels(model.config)
    name = activation_name(recipe, model.config)
    usual = "torch.nn.Sigmoid" if len(labels) == 1 else "torch.nn.Identity"
    own = activation(name or usual, f"{where}: {recipe.root}")
    reader, typed = _reader(recipe, tokenizer, model.config, where)
    try:
        vocabulary = int(model.get_input_embeddings().weight.shape[0])
        body = getattr(model, model.base_model_prefix, model)
        table = position_table(body, vocabulary, placement.device)
        limit = longest_text(
            spec.limits.max_prompt_tokens,
            recipe.settings.max_tokens,
            tokenizer,
            model.config,
            table,
            library_cuts=True,
        )
        scorer, batching, reason = choose_scorer(
            Model(
                model,
                vocabulary,
                limit,
                tokenizer.pad_token_id or 0,
                placement.device,
                placement.dtype,
                first=table.first if table else 0,
                typed=typed,
                end=model.config.eos_token_id if model.config.is_encoder_decoder else None,
            )
        )
    except FAULTS as error:
        raise ConfigError(f"{where}: {recipe.root} is no ranker: {error}") from error
    _check_verdict(verdict, vocabulary, f"{where}: {recipe.root}")
    return RankingModel(
        recipe,
        reader,
        scorer,
        limit,
        vocabulary,
        labels,
        own,
        (name or usual).rsplit(".", 1)[-1],
        verdict,
        placement,
        batching,
        reason,
    )


def _check_verdict(verdict: Verdict | None, vocabulary: int, where: str) -> None:
    tokens = () if verdict is None else (verdict.true, verdict.false)
    if any(token is not None and not 0 <= token < vocabulary for token in tokens):
        raise ConfigError(f"{where}: LogitScore names tokens outside of the model's vocabulary")


def _labels(config: Any) -> tuple[str, ...]:
    """Names by place; numbers where the configuration names none."""
    named = config.id2label or {}
    return tuple(str(named.get(number, number)) for number in range(config.num_labels))


def _reader(recipe: Recipe, tokenizer: Any, config: Any, where: str) -> tuple[TextReader, bool]:
    """The reader of pairs, and whether it gives token type ids. Raises `ConfigError`."""
    chat = recipe.settings.chat
    if not recipe.listed and recipe.verdict is not None and tokenizer.chat_template:
        chat = ChatForm()
    place = f"{where}: {recipe.root}"
    try:
        reader = TextReader(
            tokenizer, family=config.model_type, chat=chat, lower=recipe.settings.lower
        )
        if reader.refuses_pairs():
            raise ConfigError(
                "its chat template leaves out the messages of query or document; a reranker's renders both"
            )
        tried = reader.read_pairs([("a", "b")], recipe.model.prompt(None))
    except (ConfigError, InputRefused) as error:
        raise ConfigError(f"{place}: {error}") from None
    return reader, tried[0].types is not None
