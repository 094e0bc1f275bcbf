"""Computes token vectors of many texts from one row without padding."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from workers.engines import packed_attention
from workers.engines.encoding.padded_encoder import takes
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.packed_attention import AttentionCall, Unpackable


class Run(NamedTuple):
    """`texts` texts of `length` tokens, from token `offset` of the row; the first `seen` may be looked at."""

    offset: int
    texts: int
    length: int
    seen: int


class SegmentAttention:
    """Each text attends to itself alone, in runs of texts that are alike in length."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def attend(self, call: AttentionCall) -> torch.Tensor:
        """See `PackedAttention`. A window reaches `window` - 1 tokens, to both sides where not causal."""
        module, query, key, value, scale, window, *bent = call
        if any(each is not None for each in bent):
            raise Unpackable("its attention wants a soft cap, sinks or a mask of its own")
        causal = bool(getattr(module, "is_causal", False))
        _, heads, total, _ = query.shape
        out = query.new_empty(total, heads, value.shape[-1])
        for run in self.runs:
            span = slice(run.offset, run.offset + run.texts * run.length)
            mask = _mask(run, window, causal, query.device)
            attended = functional.scaled_dot_product_attention(
                _by_text(query[0, :, span], run.texts),
                _by_text(key[0, :, span], run.texts)[:, :, : run.seen],
                _by_text(value[0, :, span], run.texts)[:, :, : run.seen],
                attn_mask=mask,
                is_causal=causal and mask is None,
                scale=scale,
                enable_gqa=key.shape[1] != heads,
            )
            out[span] = attended.transpose(1, 2).flatten(0, 1)
        return out[None]


def _mask(run: Run, window: int | None, causal: bool, device: torch.device) -> torch.Tensor | None:
    """[length, seen], true where a token looks; None where it looks at all, or at all before it."""
    narrow = window is not None and run.length > window
    if not narrow and not (causal and run.seen < run.length):
        return None
    behind = (
        torch.arange(run.length, device=device)[:, None]
        - torch.arange(run.seen, device=device)[None, :]
    )
    looks = torch.ones_like(behind, dtype=torch.bool)
    if causal:
        looks &= behind >= 0
    if window is not None and narrow:
        looks &= behind.abs() < window
    return looks


def _by_text(tensor: torch.Tensor, texts: int) -> torch.Tensor:
    """[heads, texts * length, d] to [texts, heads, length, d]"""
    heads, _, width = tensor.shape
    return tensor.reshape(heads, texts, -1, width).transpose(0, 1)


class PackedEncoder:
    """All texts side by side in one row [1, T], without padding.

    `first_position` is where the model starts to count: 0, or behind the padding id (RoBERTa), which then
    has a position of its own wherever it stands. `output` is the field of the forward pass that has a vector
    for each token. Raises `Unpackable` for a model that cannot be told where its tokens stand.
    """

    def __init__(
        self,
        model: Any,
        device: torch.device,
        first_position: int = 0,
        output: str = "last_hidden_state",
    ) -> None:
        self._takes = takes(model)
        if "position_ids" not in self._takes:
            raise Unpackable(f"{type(model).__name__} takes no position ids")
        self._model = model
        self._device = device
        self._first = first_position
        self._output = output
        self._attention = SegmentAttention()
        self._before = packed_attention.attach(model, self._attention)

    def encode(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
        """See `encoder.Encoder.encode`."""
        sizes = [(len(text), text.visible) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: sizes[index])
        self._attention.runs = _runs([sizes[index] for index in order])
        row = {
            "input_ids": [token for index in order for token in texts[index].ids],
            "position_ids": [place for index in order for place in self._positions(texts[index])],
        }
        if "token_type_ids" in self._takes and texts[0].types is not None:
            row["token_type_ids"] = [kind for index in order for kind in texts[index].types or ()]
        inputs = {name: torch.tensor([ids], device=self._device) for name, ids in row.items()}
        hidden = getattr(self._model(**inputs), self._output)[0]
        parts = torch.split(hidden.float(), [sizes[index][0] for index in order])
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


def _runs(sizes: list[tuple[int, int]]) -> list[Run]:
    """[(3, 3), (3, 3), (5, 4)] to runs of (0, 2, 3, 3) and (6, 1, 5, 4)"""
    runs: list[Run] = []
    offset = 0
    for (length, seen), same in groupby(sizes):
        count = len(list(same))
        runs.append(Run(offset, count, length, seen))
        offset += count * length
    return runs
