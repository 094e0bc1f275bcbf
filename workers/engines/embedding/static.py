"""Vectors without a forward pass: a table's rows by token id."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional

from shared.domain.errors import ConfigError
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.encoding.truncation import Cut, cut_ids
from workers.engines.sentence_layout.layers import WEIGHTS, read_weights

TABLE = "embedding.weight"
MODEL2VEC = ("embeddings", "mapping", "weights")
"""Names that model2vec gives to a table, to the row of each token, and to what a row counts."""


class StaticReader:
    """Tokenises for a table, as its tokenizer.json says: without special tokens."""

    def __init__(self, folder: Path, where: str) -> None:
        file = folder / "tokenizer.json"
        try:
            self.tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # noqa: BLE001 - the library raises nothing narrower
            raise ConfigError(f"{where}: cannot load {file}: {error}") from None
        self.tokenizer.no_padding()

    def read(
        self, texts: Sequence[str], prompt: str = "", cut: Cut | None = None
    ) -> list[TokenizedText]:
        """See `TextReader.read`. What the file itself cuts is cut, as the library does."""
        encoded = self.tokenizer.encode_batch(
            [prompt + text for text in texts], add_special_tokens=False
        )
        return self.take([encoding.ids for encoding in encoded], cut)

    def take(self, lists: Sequence[list[int]], cut: Cut | None = None) -> list[TokenizedText]:
        """See `TextReader.take`."""
        side = (cut and cut.side) or "right"
        return [TokenizedText(cut_ids(ids, cut, side)) for ids in lists]


class MeanOfRows:
    """The mean of the rows of a text's tokens, zeros for a text without one."""

    def __init__(self, folder: Path, where: str, device: torch.device) -> None:
        self.table = _table(read_weights(folder, where), folder, where).float().to(device)

    def encode(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
        """n texts to n vectors [width]"""
        device = self.table.device
        ids = torch.tensor([id_ for text in texts for id_ in text.ids], device=device).long()
        ends = torch.tensor([len(text) for text in texts], device=device).cumsum(0)
        starts = functional.pad(ends[:-1], (1, 0))
        return list(functional.embedding_bag(ids, self.table, starts, mode="mean"))


class WeightOfTokens:
    """A sparse vector: the weight of each token that a text has, once."""

    def __init__(self, folder: Path, where: str, device: torch.device) -> None:
        found = read_weights(folder, where)
        if set(found) != {"weight"} or found["weight"].dim() != 1:
            raise ConfigError(f"{where}: {folder / WEIGHTS} must hold one row, weight")
        self.table = found["weight"].float().to(device)

    def encode(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
        """n texts to n vectors [vocabulary]"""
        vectors = []
        for text in texts:
            ids = torch.tensor(text.ids, device=self.table.device).long()
            vectors.append(torch.zeros_like(self.table).scatter_(0, ids, self.table[ids]))
        return vectors


def _table(found: dict[str, Any], folder: Path, where: str) -> torch.Tensor:
    """The vector of each token id: float32 [vocabulary, dimensions]."""
    table = found.get(TABLE, found.get("embeddings"))
    if set(found) - {TABLE, *MODEL2VEC} or table is None or table.dim() != 2:
        raise ConfigError(
            f"{where}: {folder / WEIGHTS} must hold {TABLE}, or {', '.join(MODEL2VEC)}; got"
            f" {', '.join(sorted(found))}"
        )
    made: torch.Tensor = table
    if TABLE not in found:
        if "mapping" in found:
            made = made[found["mapping"].long()]
        if "weights" in found:
            wide = made.to(torch.promote_types(made.dtype, torch.float32))
            made = (wide * found["weights"][:, None]).to(made.dtype)
    return made
