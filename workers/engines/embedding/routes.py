"""One way of a model from texts to vectors, ready to run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from shared.domain.errors import ConfigError, InputRefused
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.encoding.truncation import Cut
from workers.engines.row_blocks import RowBlocks, fixed_rows
from workers.engines.sentence_layout.layers import Layer
from workers.engines.sentence_layout.pooling import pool
from workers.engines.sentence_layout.recipe import Route
from workers.engines.sentence_layout.transformer_settings import Expansion


class Encoder(Protocol):
    """Runs texts: to a vector for each token, or, of a static model, to one for each text."""

    def encode(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]: ...


class Reader(Protocol):
    """Makes tokens of texts, cut to what the model takes where the job asks for it."""

    def read(
        self, texts: Sequence[str], prompt: str = "", cut: Cut | None = None
    ) -> list[TokenizedText]: ...

    def take(self, lists: Sequence[list[int]], cut: Cut | None = None) -> list[TokenizedText]: ...


@dataclass(frozen=True, slots=True)
class LoadedRoute:
    """`limit` is the longest text in tokens, `vocabulary` how many ids there are, `width` a vector's numbers.

    `pooling` are the modes of a dense transformer. `filler` is the token that queries are filled up with,
    `skipped` are those that have no vector. `batching` says how texts share a forward pass, and `reason` why
    they are not packed.
    """

    recipe: Route
    reader: Reader
    encoder: Encoder
    limit: int
    vocabulary: int
    width: int
    device: torch.device
    dtype: torch.dtype
    pooling: tuple[str, ...] = ()
    filler: int = 0
    skipped: frozenset[int] = frozenset()
    batching: str = "static"
    reason: str = ""

    def longest(self, task: str | None) -> int:
        """Tokens of the longest text of a task."""
        expansion = self._expansion(task)
        if expansion is not None and expansion.fixed:
            return min(expansion.length, self.limit)
        own = self.recipe.settings.lengths.get(task or "")
        if own is not None and expansion is not None:
            own = max(own, expansion.length)
        return self.limit if own is None else min(own, self.limit)

    def read(
        self, texts: Sequence[str], prompt: str, task: str | None, cut: Cut | None
    ) -> list[TokenizedText]:
        """Tokens of texts. Raises `InputRefused` for one that the model does not take."""
        return self._checked(self.reader.read(texts, prompt, cut), task)

    def take(
        self, lists: Sequence[list[int]], task: str | None, cut: Cut | None
    ) -> list[TokenizedText]:
        """Texts that were tokenised elsewhere. Raises as `read` does."""
        return self._checked(self.reader.take(lists, cut), task)

    def _checked(self, found: list[TokenizedText], task: str | None) -> list[TokenizedText]:
        for number, text in enumerate(found):
            self.check_length(number, len(text), task)
            if not text.ids and self.recipe.kind == "transformer":
                raise InputRefused(f"Text {number} has no tokens.")
            if text.ids and max(text.ids) >= self.vocabulary:
                raise InputRefused(f"Text {number} has tokens outside the model's vocabulary.")
            if text.skip and len(text) <= text.skip:
                raise InputRefused(f"Text {number} has no tokens but those of the prompt.")
        expansion = self._expansion(task)
        return found if expansion is None else [self._expanded(text, expansion) for text in found]

    def check_length(self, number: int, tokens: int, task: str | None) -> None:
        """Raise `InputRefused` for a text of too many tokens."""
        longest = self.longest(task)
        if tokens > longest:
            raise InputRefused(
                f"Text {number} has {tokens} tokens; this model takes {longest}. Shorten it, or have it cut"
                " with params.truncate.",
                code="prompt_too_long",
            )

    def vectors(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
        """n texts to n vectors [width], or, of a multi-vector model, [tokens, width].

        Without a last Normalize. A vector does not depend on the texts beside it.
        """
        recipe = self.recipe
        with fixed_rows(self.device, self.dtype):
            found = self.encoder.encode(texts)
        if recipe.token_layers:
            joined = _through(recipe.token_layers, torch.cat(found))
            found = list(torch.split(joined, [len(tokens) for tokens in found]))
        if recipe.splade is not None:
            return [recipe.splade.pool(logits) for logits in found]
        if recipe.form != "dense":
            return found
        if recipe.kind == "transformer":
            found = [
                pool(tokens, self.pooling, text.skip)
                for tokens, text in zip(found, texts, strict=True)
            ]
        return list(_through(recipe.layers, torch.stack(found))) if recipe.layers else found

    def _expansion(self, task: str | None) -> Expansion | None:
        return self.recipe.settings.expansion if task == "query" else None

    def _expanded(self, text: TokenizedText, expansion: Expansion) -> TokenizedText:
        missing = min(expansion.length, self.limit) - len(text)
        if missing <= 0:
            return text
        types = None if text.types is None else [*text.types, *([0] * missing)]
        seen = None if expansion.attend else len(text)
        return replace(text, ids=[*text.ids, *([self.filler] * missing)], types=types, seen=seen)


def _through(layers: Sequence[Layer], vectors: torch.Tensor) -> torch.Tensor:
    """[n, given] to [n, width], each row as if it were alone."""
    with RowBlocks():
        for layer in layers:
            vectors = layer(vectors)
    return vectors


def final_width(recipe: Route, token_width: int, modes: int) -> int:
    """Numbers of a vector whose tokens have `token_width`. Raises `ConfigError` for layers that do not."""
    width = token_width
    try:
        for layer in recipe.token_layers:
            width = layer.width(width)
        width *= modes
        for layer in recipe.layers:
            width = layer.width(width)
    except ValueError as error:
        raise ConfigError(f"{recipe.root}: a layer does not fit: {error}") from None
    return width


def filler_token(tokenizer: Any, expansion: Expansion | None, where: str) -> int:
    """The id that queries are filled up with. Raises `ConfigError` where the tokenizer has none."""
    if expansion is None:
        return 0
    if tokenizer.padding_side == "left":
        raise ConfigError(f"{where}: query_expansion with a tokenizer that pads on the left")
    if expansion.token is None:
        found = tokenizer.mask_token_id
        found = tokenizer.eos_token_id if found is None else found
    else:
        found = tokenizer.convert_tokens_to_ids(expansion.token)
        if found == tokenizer.unk_token_id and expansion.token != tokenizer.unk_token:
            found = None
    if found is None:
        raise ConfigError(
            f"{where}: query_expansion: the tokenizer has no {expansion.token or 'mask token'}"
        )
    return int(found)
