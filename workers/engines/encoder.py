"""Token vectors of many texts from one forward pass: packed where that is right, else little padded."""

import inspect
from collections.abc import Sequence as Items
from itertools import groupby
from typing import Any, Protocol

import torch
from torch.nn import functional

from workers.engines import packed_attention
from workers.engines.packed_attention import FAULTS, Unpackable

TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest difference of a token's vector, relative to its length."""
PADDING = 1.2
"""Padded tokens for each real one, at most."""


class Encoder(Protocol):
    """Runs texts through a model."""

    def encode(self, texts: Items[Items[int]]) -> list[torch.Tensor]:
        """Token ids of n texts to n tensors [tokens, width] in float32, in the same order."""


class SegmentAttention:
    """Each text attends to itself alone. `runs` are (offset, texts, length) of texts of equal length."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self.runs: list[tuple[int, int, int]] = []

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *,
        scale: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """See `packed_attention.Attends`; [1, heads, T, d] in, [1, T, heads, d] out."""
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

    `first_position` is where the model starts to count: 0, or behind the padding id (RoBERTa).
    """

    def __init__(
        self, model: Any, longest: int, device: torch.device, first_position: int = 0
    ) -> None:
        self._model = model
        self._device = device
        self._first = first_position
        self._attention = SegmentAttention(longest)
        self._before = packed_attention.attach(model, self._attention)

    def encode(self, texts: Items[Items[int]]) -> list[torch.Tensor]:
        """See `Encoder.encode`."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        lengths = [len(texts[index]) for index in order]
        self._attention.runs = _runs(lengths)
        ids = [token for index in order for token in texts[index]]
        positions = [place for length in lengths for place in range(length)]
        hidden = self._model(
            input_ids=torch.tensor([ids], device=self._device),
            position_ids=torch.tensor([positions], device=self._device) + self._first,
        ).last_hidden_state[0]
        parts = torch.split(hidden.float(), lengths)
        return [part for _, part in sorted(zip(order, parts, strict=True), key=lambda p: p[0])]

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


class PaddedEncoder:
    """Texts of like length together, padded to the longest of their group and no more than PADDING."""

    def __init__(self, model: Any, pad: int, device: torch.device) -> None:
        self._model = model
        self._pad = pad
        self._device = device

    def encode(self, texts: Items[Items[int]]) -> list[torch.Tensor]:
        """See `Encoder.encode`."""
        encoded: dict[int, torch.Tensor] = {}
        for group in _groups([len(text) for text in texts]):
            longest = max(len(texts[index]) for index in group)
            ids = torch.full((len(group), longest), self._pad)
            mask = torch.zeros(len(group), longest, dtype=torch.long)
            for row, index in enumerate(group):
                ids[row, : len(texts[index])] = torch.tensor(texts[index])
                mask[row, : len(texts[index])] = 1
            hidden = self._model(
                input_ids=ids.to(self._device), attention_mask=mask.to(self._device)
            ).last_hidden_state.float()
            for row, index in enumerate(group):
                encoded[index] = hidden[row, : len(texts[index])]
        return [encoded[index] for index in range(len(texts))]


def _groups(lengths: list[int]) -> list[list[int]]:
    """Indices in order of length, cut wherever the padding would grow too much."""
    groups: list[list[int]] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        size = lengths[index]
        if groups and size * (len(groups[-1]) + 1) <= PADDING * (total + size):
            groups[-1].append(index)
            total += size
        else:
            groups.append([index])
            total = size
    return groups


def choose_encoder(
    model: Any, longest: int, pad: int, device: torch.device, dtype: torch.dtype
) -> tuple[Encoder, str, str]:
    """The packed encoder if its vectors equal those of each text alone, else the padded one.

    Returns it with "packed" or "padded" and the reason. Lets through what a plain forward pass raises.
    """
    vocabulary = int(model.get_input_embeddings().num_embeddings)
    generator = torch.Generator().manual_seed(0)
    sizes = [min(size, longest) for size in (2, 7, 7, 31)]
    low = min(pad + 1, vocabulary - 1)
    texts = [torch.randint(low, vocabulary, (n,), generator=generator).tolist() for n in sizes]
    plain = PaddedEncoder(model, pad, device)
    expected = [plain.encode([text])[0] for text in texts]
    reason = ""
    for first in (0, pad + 1):
        try:
            return _checked(model, texts, expected, longest, device, dtype, first), "packed", ""
        except Unpackable as error:
            reason = reason or str(error)
    return plain, "padded", reason


def _checked(
    model: Any,
    texts: list[list[int]],
    expected: list[torch.Tensor],
    longest: int,
    device: torch.device,
    dtype: torch.dtype,
    first: int,
) -> PackedEncoder:
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise Unpackable(f"{type(model).__name__} takes no position ids")
    encoder = PackedEncoder(model, longest, device, first)
    try:
        found = encoder.encode(texts)
        off = max(_difference(a, b) for a, b in zip(found, expected, strict=True))
        if not off <= TOLERANCE[dtype]:
            raise Unpackable(f"its packed vectors are off by {off:.2g} of their length")
    except Unpackable:
        encoder.detach()
        raise
    except FAULTS as error:
        encoder.detach()
        raise Unpackable(f"a packed trial run failed: {error}") from error
    return encoder


def _difference(found: torch.Tensor, right: torch.Tensor) -> float:
    error = (found - right).norm(dim=-1) / right.norm(dim=-1).clamp_min(1e-6)
    return float(error.max())
