"""Runs a classifier's body on many texts without padding, and its head on what the body gives.

The head is the model itself with its body taken out: transformers' own code decides what it looks at.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from workers.engines.encoding.encoder import TOLERANCE, Encoder, Model, choose_encoder
from workers.engines.encoding.padded_encoder import PaddedEncoder, like_lengths, takes
from workers.engines.encoding.segment_attention import Look
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.packed_attention import FAULTS
from workers.engines.row_blocks import RowBlocks, fixed_rows

LOOKS: tuple[Look, ...] = ("first", "last", "all")
"""The tokens that a head may look at, from the least work to the most."""


class Scorer(Protocol):
    """Runs texts through a model with a head."""

    def score(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
        """n texts to n rows of logits in float32; a row does not depend on the texts beside it."""


class _Given(nn.Module):
    """Stands where a body was and gives what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.output: Any = None

    def forward(self, *_: Any, **__: Any) -> Any:
        return self.output


class Head:
    """A model with a head, whose body is apart. `look` is one of `LOOKS`."""

    def __init__(self, model: Any, pad: int, token: int, device: torch.device) -> None:
        self._model = model
        self._name: str = model.base_model_prefix
        self.body = getattr(model, self._name)
        self._given = _Given()
        self._pad, self._token, self._device = pad, token, device
        self._pooler = getattr(self.body, "pooler", None)
        self.look = LOOKS[0]

    def logits(self, hidden: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """n texts' token vectors [tokens, width] to n rows [labels]."""
        chosen = [self._looked_at(tokens) for tokens in hidden]
        rows: dict[int, torch.Tensor] = {}
        for group in like_lengths([len(tokens) for tokens in chosen], 1.0):
            found = self._run(torch.stack([chosen[number] for number in group]))
            rows.update(zip(group, found, strict=True))
        return [rows[number] for number in range(len(hidden))]

    def _looked_at(self, tokens: torch.Tensor) -> torch.Tensor:
        if self.look == "all":
            return tokens
        return tokens[:1] if self.look == "first" else tokens[-1:]

    def _run(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n, tokens, width] to [n, labels]"""
        dtype = next(self._model.parameters()).dtype
        hidden = hidden.to(dtype)
        ids = torch.full(hidden.shape[:2], self._token, device=self._device)
        setattr(self._model, self._name, self._given)
        try:
            with RowBlocks():
                pooled = None if self._pooler is None else self._pooler(hidden)
                self._given.output = BaseModelOutputWithPoolingAndCrossAttentions(
                    last_hidden_state=hidden, pooler_output=pooled
                )
                logits = self._model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        finally:
            self._given.output = None
            setattr(self._model, self._name, self.body)
        return _last(logits)


def _last(logits: torch.Tensor) -> torch.Tensor:
    """[n, labels] as they are, [n, tokens, vocabulary] of the last token."""
    return (logits if logits.dim() == 2 else logits[:, -1]).float()


class Apart:
    """A body that texts share a pass of, and a head."""

    def __init__(self, encoder: Encoder, head: Head, device: torch.device, dtype: torch.dtype):
        self._encoder, self._head = encoder, head
        self._device, self._dtype = device, dtype

    def score(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
        """See `Scorer.score`."""
        with fixed_rows(self._device, self._dtype):
            hidden = self._encoder.encode(texts)
        return self._head.logits(hidden)


class Together:
    """The model as it is, on texts of one length at a time, or (`alone`) on each by itself."""

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype, *, alone: bool):
        self._model, self._device, self._dtype = model, device, dtype
        self._padding = 0.0 if alone else 1.0
        self._takes = takes(model)

    def score(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
        """See `Scorer.score`."""
        rows: dict[int, torch.Tensor] = {}
        with fixed_rows(self._device, self._dtype):
            for group in like_lengths([len(text) for text in texts], self._padding):
                rows.update(zip(group, self._run([texts[number] for number in group]), strict=True))
        return [rows[number] for number in range(len(texts))]

    def _run(self, texts: Sequence[TokenizedText]) -> torch.Tensor:
        ids = torch.tensor([text.ids for text in texts], device=self._device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if texts[0].types is not None and "token_type_ids" in self._takes:
            types = [text.types for text in texts]
            inputs["token_type_ids"] = torch.tensor(types, device=self._device)
        return _last(self._model(**inputs).logits)


def choose_scorer(model: Model) -> tuple[Scorer, str, str]:
    """The quickest scorer whose rows equal those of each text alone.

    Returns it with its way (`encoder.WAYS`, or "packed") and why it is not packed. `model.model` is the whole
    model with its head. Lets through what a plain forward pass raises; raises `ValueError` for rows that are
    not numbers, or not always the same.
    """
    whole, device, dtype = model.model, model.device, model.dtype
    texts = model.trial()
    alone = Together(whole, device, dtype, alone=True)
    expected = alone.score(texts)
    if not all(bool(torch.isfinite(row).all()) for row in expected):
        raise ValueError(f"its scores are not numbers (NaN or infinity) in {dtype}")
    try:
        head = _head(model, texts, expected)
    except FAULTS as error:
        head, why = None, f"its head cannot be run apart from its body: {error}"
    else:
        why = "its head looks at more than its body's vectors"
    if head is not None:
        body = Model(
            head.body, model.vocabulary, model.longest, model.pad, device, dtype, model.first,
            model.typed, end=model.end, look=head.look,
        )  # fmt: skip
        encoder, way, reason = choose_encoder(body)
        return Apart(encoder, head, device, dtype), way, reason
    together = Together(whole, device, dtype, alone=False)
    if _same(together.score(texts), expected, dtype):
        return together, "equal lengths", why
    return alone, "alone", why


def _head(
    model: Model, texts: Sequence[TokenizedText], expected: Sequence[torch.Tensor]
) -> Head | None:
    """The head that gives the expected rows, and looks at the fewest tokens; None where none does."""
    token = next(token for token in range(model.vocabulary) if token != model.pad)
    head = Head(model.model, model.pad, token, model.device)
    plain = PaddedEncoder(head.body, model.pad, model.device, 0.0)
    hidden = plain.encode(texts)
    return next(_fitting(head, hidden, expected, model.dtype), None)


def _fitting(
    head: Head,
    hidden: Sequence[torch.Tensor],
    expected: Sequence[torch.Tensor],
    dtype: torch.dtype,
) -> Iterator[Head]:
    for look in LOOKS:
        head.look = look
        if _same(head.logits(hidden), expected, dtype):
            yield head


def _same(found: Sequence[torch.Tensor], right: Sequence[torch.Tensor], dtype: torch.dtype) -> bool:
    """Whether rows differ by no more than what rounding does, beside how far the rows are from another."""
    rows, others = torch.stack(list(found)), torch.stack(list(right))
    if rows.shape != others.shape:
        return False
    scale = others.abs().max().clamp_min(1e-6)
    spread = (others.max(dim=0).values - others.min(dim=0).values).max()
    near = TOLERANCE[dtype] * min(scale, max(spread, 0.1 * scale))
    return bool((rows - others).abs().max() <= near)
