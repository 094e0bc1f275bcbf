"""Computes token vectors of many texts from one row without padding."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import accumulate
from typing import Any

import torch

from workers.engines import packed_attention
from workers.engines.encoding.padded_encoder import takes
from workers.engines.encoding.segment_attention import Look, Run, SegmentAttention, runs_of
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.last_rows import LastRows
from workers.engines.packed_attention import Unpackable


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
        """See `encoder.Encoder.encode`. Of each text the tokens that `narrow` names, all without it."""
        sizes = [(len(text), text.visible) for text in texts]
        order = sorted(range(len(texts)), key=lambda index: sizes[index])
        row = {
            "input_ids": [token for index in order for token in texts[index].ids],
            "position_ids": [place for index in order for place in self._positions(texts[index])],
        }
        if "token_type_ids" in self._takes and texts[0].types is not None:
            row["token_type_ids"] = [kind for index in order for kind in texts[index].types or ()]
        inputs = {name: torch.tensor([ids], device=self._device) for name, ids in row.items()}
        with ExitStack() as narrowing:
            self._begin(runs_of([sizes[index] for index in order]), narrowing)
            hidden = getattr(self._model(**inputs), self._output)[0]
        counts = [sizes[index][0] if self.look == "all" else 1 for index in order]
        if len(hidden) != sum(counts):
            raise Unpackable(f"{len(hidden)} vectors came of {sum(counts)} tokens")
        parts = torch.split(hidden.float(), counts)
        return [part for _, part in sorted(zip(order, parts, strict=True), key=lambda p: p[0])]

    @property
    def look(self) -> Look:
        return self._attention.look

    def narrow(self, look: Look) -> None:
        """Compute the last layer for the `look` token of each text alone; "all" undoes it.

        There must have been a pass, which showed how many layers there are.
        """
        self._attention.look, self._attention.full = look, self._attention.calls - 1

    def _begin(self, runs: Sequence[Run], narrowing: ExitStack) -> None:
        if self.look == "all":
            self._attention.begin(runs)
            return
        places = [
            at + (0 if self.look == "first" else run.length - 1)
            for run in runs
            for at in range(run.span.start, run.span.stop, run.length)
        ]
        rows = LastRows(torch.tensor(places, device=self._device), runs[-1].span.stop)
        self._attention.begin(runs, lambda: narrowing.enter_context(rows))

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
