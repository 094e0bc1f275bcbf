"""What turns a plan into logits, however a model runs."""

from collections.abc import Sequence as Items
from typing import Protocol

import torch

from workers.engines.text_generation.chunk import Chunk, Row


class Runner(Protocol):
    """Turns a plan into logits. Holds the keys and values, and nothing else of a sequence."""

    def run(self, chunks: Items[Chunk]) -> tuple[list[Row], torch.Tensor]:
        """Where logits were wanted, and those logits as float32 [rows, vocabulary].

        Beginnings are copied in the order of the chunks, before anything is run.
        """

    def undo(self, chunks: Items[Chunk]) -> None:
        """The step with these chunks has failed: what it wrote may be no numbers, and goes."""

    def release(self, slot: int, *, scrub: bool) -> None:
        """The sequence in `slot` is gone; `scrub` when it may have left numbers that are none."""

    def detach(self) -> None:
        """Give the model back as it was."""
