"""Computes token vectors of many texts with a model's own forward pass, padded as far as allowed."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from workers.engines.encoding.tokenized_text import TokenizedText


class PaddedEncoder:
    """Texts of like length together, padded to the longest of their group.

    `padding` is how many tokens may be run for each real one: 1.0 puts only texts of equal length together,
    0.0 runs each alone. `output` is the field of the forward pass that has a vector for each token.
    """

    def __init__(
        self,
        model: Any,
        pad: int,
        device: torch.device,
        padding: float,
        output: str = "last_hidden_state",
    ) -> None:
        self._model = model
        self._pad = pad
        self._device = device
        self._padding = padding
        self._takes = takes(model)
        self._output = output

    def encode(self, texts: Sequence[TokenizedText]) -> list[torch.Tensor]:
        """See `encoder.Encoder.encode`."""
        encoded: dict[int, torch.Tensor] = {}
        for group in like_lengths([len(text) for text in texts], self._padding):
            hidden = self._run([texts[index] for index in group])
            for row, index in enumerate(group):
                encoded[index] = hidden[row, : len(texts[index])]
        return [encoded[index] for index in range(len(texts))]

    def _run(self, texts: Sequence[TokenizedText]) -> torch.Tensor:
        longest = max(map(len, texts))
        ids = torch.full((len(texts), longest), self._pad)
        mask = torch.zeros(len(texts), longest, dtype=torch.long)
        types = torch.zeros(len(texts), longest, dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text.ids)
            mask[row, : text.visible] = 1
            if text.types is not None:
                types[row, : len(text)] = torch.tensor(text.types)
        inputs = {"input_ids": ids}
        if "attention_mask" in self._takes:
            inputs["attention_mask"] = mask
        if "token_type_ids" in self._takes and texts[0].types is not None:
            inputs["token_type_ids"] = types
        inputs = {name: tensor.to(self._device) for name, tensor in inputs.items()}
        hidden: torch.Tensor = getattr(self._model(**inputs), self._output)
        return hidden.float()


def takes(model: Any) -> frozenset[str]:
    """Names of what a model's forward pass takes."""
    return frozenset(inspect.signature(model.forward).parameters)


def like_lengths(lengths: Sequence[int], padding: float) -> list[list[int]]:
    """Indices in order of length, cut wherever the padding would grow too much."""
    groups: list[list[int]] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        size = lengths[index]
        if groups and size * (len(groups[-1]) + 1) <= padding * (total + size):
            groups[-1].append(index)
            total += size
        else:
            groups.append([index])
            total = size
    return groups
