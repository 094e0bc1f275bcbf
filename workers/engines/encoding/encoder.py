"""Chooses how texts share a forward pass: the fastest way whose vectors equal those of each text alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from workers.engines import packed_weights
from workers.engines.encoding.packed_encoder import PackedEncoder
from workers.engines.encoding.padded_encoder import PaddedEncoder
from workers.engines.encoding.segment_attention import Look
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.loading.text_lengths import ScaledRotary, scaled_rotaries
from workers.engines.packed_attention import FAULTS, Unpackable
from workers.engines.row_blocks import wants_fixed_rows

TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest difference of a token's vector, relative to its length."""
WAYS = {"padded": 1.2, "equal lengths": 1.0, "alone": 0.0}
"""Ways to run a model as it is, quickest first, by how many tokens are run for each real one."""
TRIAL = (2, 7, 7, 8, 29, 31, 131)
"""Tokens of the texts that are tried at load: some alike in length, some nearly so, some not."""
BEYOND = 5
"""Tokens by which a text of the trial is longer than what a layer's attention reaches."""
LONGEST_TRIAL = 2048


class Encoder(Protocol):
    """Runs texts through a model."""

    def encode(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
        """n texts to n tensors [tokens, width] in float32, in the same order.

        Where `Model.look` names one token, there may be its vector alone, [1, width].
        """


class ByKind:
    """Texts that a model treats differently for their length never share a forward pass."""

    def __init__(self, inner: Encoder, rotaries: Sequence[ScaledRotary]) -> None:
        self._inner = inner
        self._rotaries = rotaries

    def encode(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
        """See `Encoder.encode`."""
        kinds: dict[tuple[int, ...], list[int]] = {}
        for index, text in enumerate(texts):
            kind = tuple(rotary.kind(len(text)) for rotary in self._rotaries)
            kinds.setdefault(kind, []).append(index)
        encoded: dict[int, torch.Tensor] = {}
        for alike in kinds.values():
            for rotary in self._rotaries:
                rotary.forget()
            found = self._inner.encode([texts[index] for index in alike])
            encoded.update(zip(alike, found, strict=True))
        return [encoded[index] for index in range(len(texts))]


@dataclass(frozen=True, slots=True)
class Model:
    """A model with what its encoders must know.

    `vocabulary` is how many token ids it knows, `longest` its longest text in tokens, `pad` its padding id,
    `first` where its position table begins to count. `typed`: its tokenizer gives token type ids. `output`
    is the field of its forward pass that has a vector for each token. `hides`: texts may have tokens that
    the others do not look at. `end`: the token that each text has as its last one, and nowhere else. `look`:
    which vectors are wanted; the others need not be right, nor there.
    """

    model: Any
    vocabulary: int
    longest: int
    pad: int
    device: torch.device
    dtype: torch.dtype
    first: int = 0
    typed: bool = False
    output: str = "last_hidden_state"
    hides: bool = False
    end: int | None = None
    look: Look = "all"

    def trial(self) -> list[TokenizedText]:
        """Random texts of several lengths."""
        generator = torch.Generator().manual_seed(0)
        low = min(self.pad + 1, self.vocabulary - 1)
        texts = []
        for size in (min(size, self.longest) for size in (*TRIAL, *self._beyond_windows())):
            ids = torch.randint(low, self.vocabulary, (size,), generator=generator).tolist()
            if self.end is not None:
                ids = [*(low if id_ == self.end else id_ for id_ in ids[:-1]), self.end]
            types = [0] * size if self.typed else None
            seen = (size + 1) // 2 if self.hides and size > 7 else None
            texts.append(TokenizedText(ids, types, seen=seen))
        return texts

    def _beyond_windows(self) -> set[int]:
        """Lengths at which it shows how far layers look that do not look at a whole text."""
        found = {getattr(module, "sliding_window", None) for module in self.model.modules()}
        windows = {window for window in found if isinstance(window, int) and window > 0}
        return {window + BEYOND for window in windows if window < min(self.longest, LONGEST_TRIAL)}


def choose_encoder(model: Model) -> tuple[Encoder, str, str]:
    """The quickest encoder whose vectors equal those of each text alone.

    Returns it with its way ("packed" or one of `WAYS`) and why it is not packed. Lets through what a plain
    forward pass raises; raises `ValueError` for a model whose vectors of a text are not always the same.
    """
    rotaries = scaled_rotaries(model.model)
    texts = model.trial()
    alone = ByKind(_padded(model, "alone"), rotaries)
    expected = alone.encode(texts)
    if not all(bool(torch.isfinite(tokens).all()) for tokens in expected):
        raise ValueError(f"its vectors are not numbers (NaN or infinity) in {model.dtype}")
    if _off(alone.encode(texts[::-1])[::-1], expected, model.dtype):
        raise ValueError("its vectors of a text depend on what it ran before, or on chance")
    if wants_fixed_rows(model.device, model.dtype):
        _pack_weights(model, alone, texts, expected)
    reasons: list[str] = []
    for way, make in _candidates(model):
        try:
            inner = make()
            encoder: Encoder = ByKind(inner, rotaries) if rotaries else inner
            _check(inner, encoder, texts, expected, model.dtype)
        except Unpackable as error:
            reasons.append(str(error))
        else:
            if isinstance(inner, PackedEncoder) and model.look != "all":
                _narrow(inner, encoder, texts, expected, model)
            return encoder, way, "" if way == "packed" else reasons[0]
    return alone, "alone", reasons[0]


def _pack_weights(
    model: Model, alone: Encoder, texts: Sequence[TokenizedText], expected: Sequence[torch.Tensor]
) -> None:
    """Have linear layers run over packed weights, where that gives the expected vectors."""
    packed_weights.attach_half(model.model, model.dtype)
    try:
        same = not _off(alone.encode(texts), expected, model.dtype)
    except FAULTS:
        # A model may read the weights of its layers by itself.
        same = False
    if not same:
        packed_weights.detach(model.model)


def _candidates(model: Model) -> Iterator[tuple[str, Callable[[], PackedEncoder | PaddedEncoder]]]:
    for first in sorted({0, model.first}):
        yield "packed", partial(PackedEncoder, model.model, model.device, first, model.output)
    for way in ("padded", "equal lengths"):
        yield way, partial(_padded, model, way)


def _padded(model: Model, way: str) -> PaddedEncoder:
    return PaddedEncoder(model.model, model.pad, model.device, WAYS[way], model.output)


def _check(
    inner: PackedEncoder | PaddedEncoder,
    encoder: Encoder,
    texts: Sequence[TokenizedText],
    expected: Sequence[torch.Tensor],
    dtype: torch.dtype,
) -> None:
    """Raise `Unpackable` for an encoder whose vectors are not the expected ones."""
    try:
        off = _off(encoder.encode(texts), expected, dtype)
        if off:
            raise Unpackable(f"its vectors in company are off by {off:.2g} of their length")
    except (*FAULTS, Unpackable) as error:
        if isinstance(inner, PackedEncoder):
            inner.detach()
        if isinstance(error, Unpackable):
            raise
        raise Unpackable(f"a trial run in company failed: {error}") from error


def _narrow(
    inner: PackedEncoder,
    encoder: Encoder,
    texts: Sequence[TokenizedText],
    expected: Sequence[torch.Tensor],
    model: Model,
) -> None:
    """Have the last layer run for the tokens that are wanted alone, where that gives their vectors."""
    wanted = [tokens[:1] if model.look == "first" else tokens[-1:] for tokens in expected]
    inner.narrow(model.look)
    try:
        same = not _off(encoder.encode(texts), wanted, model.dtype)
    except (*FAULTS, Unpackable):
        same = False
    if not same:
        inner.narrow("all")


def _off(found: Sequence[torch.Tensor], right: Sequence[torch.Tensor], dtype: torch.dtype) -> float:
    """The largest difference of a token's vector relative to its length, 0 within the tolerance."""
    off = max(_difference(a, b) for a, b in zip(found, right, strict=True))
    return 0.0 if off <= TOLERANCE[dtype] else off


def _difference(found: torch.Tensor, right: torch.Tensor) -> float:
    error = (found - right).norm(dim=-1) / right.norm(dim=-1).clamp_min(1e-6)
    return float(error.max())
