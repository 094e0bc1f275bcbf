"""A text classifier as a model of one's own: byte embeddings, mean, one linear layer. Seeded weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from shared.domain.errors import InputRefused
from workers.engines.one_shot import OneShotModel

LABELS = ("question", "statement", "exclamation")
LONGEST = 4096
PAD = 256


class Classifier(OneShotModel):
    """A string in, `{"label": …, "scores": {label: probability}}` out. It is not trained."""

    def load(self, device: torch.device) -> None:
        torch.manual_seed(int(self.options.get("seed", 0)))
        self._device = device
        self._embedding = nn.Embedding(PAD + 1, 32, padding_idx=PAD).to(device)
        self._head = nn.Linear(32, len(LABELS)).to(device)

    def cost(self, item: Any) -> float:
        """Bytes: texts of about the same length share a batch, so there is little padding."""
        if not isinstance(item, str) or not item:
            raise InputRefused("The input must be a text.")
        if len(item.encode()) > LONGEST:
            raise InputRefused(f"The text is longer than {LONGEST} bytes.", code="prompt_too_long")
        return len(item.encode())

    def collate(self, inputs: list[str]) -> Tensor:
        """Texts to bytes [n, longest], padded."""
        rows = [torch.tensor(list(text.encode())) for text in inputs]
        return pad_sequence(rows, batch_first=True, padding_value=PAD).to(self._device)

    def predict(self, inputs: Tensor) -> Sequence[Any]:
        lengths = (inputs != PAD).sum(dim=1, keepdim=True)
        pooled = self._embedding(inputs).sum(dim=1) / lengths
        rows = self._head(pooled).softmax(dim=1).tolist()
        return [
            {"label": LABELS[row.index(max(row))], "scores": dict(zip(LABELS, row, strict=True))}
            for row in rows
        ]
