"""Computes token vectors of many texts from one row without padding."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby
from typing import Any

import torch
from torch.nn import functional

from workers.engines import packed_attention
from workers.engines.embedding.padded_encoder import takes
from workers.engines.embedding.sentence_text import TokenizedText
from workers.engines.packed_attention import AttentionCall, Unpackable


class SegmentAttention:
    """Each text attends to itself alone. `runs` are (offset, texts, length) of texts of equal length."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self.runs: list[tuple[int, int, int]] = []

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """See `PackedAttention`."""
        module, query, key, value, scale, window, *bent = call
        if any(each is not None for each in bent):
            raise Unpackable("its attention wants a soft cap, sinks or a mask of its own")
        if window is not None and window < self._longest:
            raise Unpackable(f"its attention reaches {window} of {self._longest} tokens")
        causal = bool(getattr(module, "is_causal", False))
        _, heads, total, _ = query.shape
        out = query.new_empty(total, heads, value.shape[-1])
        for offset, texts, length in self.runs:
            span = slice(offset, offset + texts * length)
            attended = functional.scaled_dot_product_attention(
                _by_text(query[0, :, span], texts),
                _by_text(key[0, :, span], texts),
                _by_text(value[0, :, span], texts),
                is_causal=causal,
                scale=scale,
                enable_gqa=key.shape[1] != heads,
            )
            out[span] = attended.transpose(1, 2).flatten(0, 1)
        return out[None]


def _by_text(tensor: torch.Tensor, texts: int) -> torch.Tensor:
    """[heads, texts * length, d] to [texts, heads, length, d]"""
    heads, _, width = tensor.shape
    return tensor.reshape(heads, texts, -1, width).transpose(0, 1)


class PackedEncoder:
    """All texts side by side in one row [1, T], without padding.

    `first_position` is where the model starts to count: 0, or behind the padding id (RoBERTa), which then
    has a position of its own wherever it stands. Raises `Unpackable` for a model that cannot be told where
    its tokens stand.
    """

    def __init__(
        self, model: Any, longest: int, device: torch.device, first_position: int = 0
    ) -> None:
        self._takes = takes(model)
        if "position_ids" not in self._takes:
            raise Unpackable(f"{type(model).__name__} takes no position ids")
        self._model = model
        self._device = device
        self._first = first_position
        self._attention = SegmentAttention(longest)
        self._before = packed_attention.attach(model, self._attention)

    def encode(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
        """See `encoder.Encoder.encode`."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        lengths = [len(texts[index]) for index in order]
        self._attention.runs = _runs(lengths)
        row = {
            "input_ids": [token for index in order for token in texts[index].ids],
            "position_ids": [place for index in order for place in self._positions(texts[index])],
        }
        if "token_type_ids" in self._takes and texts[0].types is not None:
            row["token_type_ids"] = [kind for index in order for kind in texts[index].types or ()]
        inputs = {name: torch.tensor([ids], device=self._device) for name, ids in row.items()}
        hidden = self._model(**inputs).last_hidden_state[0]
        parts = torch.split(hidden.float(), lengths)
        return [part for _, part in sorted(zip(order, parts, strict=True), key=lambda p: p[0])]

    def _positions(self, text: TokenizedText) -> Iterable[int]:
        if not self._first:
            return range(len(text))
        pad = self._first - 1
        counted = accumulate(int(token != pad) for token in text.ids)
        return [
            pad if token == pad else pad + count
            for token, count in zip(text.ids, counted, strict=True)
        ]

    def detach(self) -> None:
        """Give the model its own attention back."""
        packed_attention.detach(self._model, self._before)


def _runs(lengths: list[int]) -> list[tuple[int, int, int]]:
    """[3, 3, 5] to [(0, 2, 3), (6, 1, 5)]"""
    runs: list[tuple[int, int, int]] = []
    offset = 0
    for length, same in groupby(lengths):
        count = len(list(same))
        runs.append((offset, count, length))
        offset += count * length
    return runs
