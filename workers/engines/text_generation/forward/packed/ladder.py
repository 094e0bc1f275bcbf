"""Decode steps in fixed shapes, over buffers that are set up once: what a CUDA graph can be captured of.

A step takes the smallest shape that holds it. Rows that it does not need write into a slot of their own,
the scratch slot, and nobody looks at what comes out of them.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import torch

from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.forward.packed.attention import SlotAttention
from workers.engines.text_generation.forward.packed.attention_layers import positions_of
from workers.engines.text_generation.forward.packed.layout import DENSE, Layout, Window
from workers.engines.text_generation.forward.rope import MixedRotary
from workers.engines.text_generation.transfer import upload

SHORTEST_WINDOW = 256
WARM_UPS = 2
"""Passes before a capture, in which libraries pick their kernels and take their work space."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`rows` sequences that look back over at most `window` tokens.

    With `gather` each row names its slot, whose keys are copied together; else row n is slot n, and
    attention runs over the cache itself.
    """

    rows: int
    window: int
    gather: bool


def bucket_sizes(least: int, most: int) -> list[int]:
    """`least`, doubled until it reaches `most`, which is the last one."""
    found = []
    while least < most:
        found.append(least)
        least *= 2
    return [*found, most]


class Ladder:
    """All shapes of a model with `slots` slots of `length` tokens; slot number `slots` is the scratch."""

    def __init__(
        self,
        model: Any,
        attention: SlotAttention,
        slots: int,
        length: int,
        device: torch.device,
        rotary: MixedRotary | None = None,
    ) -> None:
        self._model = model
        self._rotary = rotary
        self._attention = attention
        self._slots = slots
        self._device = device
        self._rows = bucket_sizes(1, slots)
        self._windows = bucket_sizes(SHORTEST_WINDOW, length)
        self._buckets: dict[Shape, GraphBucket] = {}
        self._out: torch.Tensor | None = None
        self._pool: Any = None

    def __len__(self) -> int:
        return len(self._buckets)

    def shapes(self) -> list[Shape]:
        """Largest first, so that smaller ones find room in the memory of larger ones."""
        return [
            Shape(rows, window, gather)
            for rows in reversed(self._rows)
            for window in reversed(self._windows)
            for gather in (False, True)
            if not gather or rows <= DENSE * self._slots
        ]

    def shape_for(self, chunks: Items[Chunk]) -> Shape:
        """The smallest shape that holds a step of these single tokens."""
        bound = max(chunk.slot for chunk in chunks) + 1
        window = next(w for w in self._windows if w >= max(chunk.end for chunk in chunks))
        rows = next(rows for rows in self._rows if rows >= bound)
        few = next(rows for rows in self._rows if rows >= len(chunks))
        if len(chunks) < DENSE * rows and few <= DENSE * self._slots:
            return Shape(few, window, gather=True)
        return Shape(rows, window, gather=False)

    def warm_up(self) -> None:
        """Run every shape, on CUDA capture it. Raises what torch raises when one cannot be captured."""
        for shape in self.shapes():
            self._buckets[shape] = bucket = GraphBucket(shape, self._slots, self._device)
            if self._device.type == "cuda":
                self._capture(bucket)
            else:
                self._forward(bucket)

    def run(self, chunks: Items[Chunk]) -> torch.Tensor:
        """Logits of a step of single tokens, [chunks, vocabulary], in the model's number format."""
        shape = self.shape_for(chunks)
        bucket = self._buckets[shape]
        places = list(range(len(chunks))) if shape.gather else [chunk.slot for chunk in chunks]
        bucket.fill(chunks, places)
        if bucket.graph is not None:
            bucket.graph.replay()
        else:
            self._forward(bucket)
        assert self._out is not None
        return self._out[upload(places, torch.long, self._device)]

    def _forward(self, bucket: "GraphBucket") -> None:
        self._attention.layout = bucket.layout()
        if self._rotary is not None:
            beyond = bucket.positions >= self._rotary.window
            self._rotary.long = (beyond | (bucket.long > 0))[None, :, None]
        try:
            numbered = positions_of(self._model, bucket.positions)
            output = self._model(input_ids=bucket.tokens[None], use_cache=False, **numbered)
        finally:
            self._attention.layout = None
            if self._rotary is not None:
                self._rotary.long = None
        logits = output.logits[0]
        if self._out is None:
            self._out = logits.new_empty(self._slots, logits.shape[-1])
        self._out[: bucket.shape.rows] = logits

    def _capture(self, bucket: "GraphBucket") -> None:
        stream: Any = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._forward(bucket)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            self._forward(bucket)
        self._pool = self._pool or graph.pool()
        bucket.graph = graph


class GraphBucket:
    """The buffers of one shape: [4, rows] of tokens, positions, slots to write into, and long texts' rows."""

    def __init__(self, shape: Shape, scratch: int, device: torch.device) -> None:
        self.shape = shape
        self.graph: Any = None
        self._scratch = scratch
        self._inputs = torch.zeros(4, shape.rows, dtype=torch.long, device=device)
        self.tokens, self.positions, self.slots, self.long = self._inputs
        self.slots.fill_(scratch)

    def fill(self, chunks: Items[Chunk], places: Items[int]) -> None:
        """Put each chunk's token into the row at its place; all other rows are idle."""
        rows = self.shape.rows
        tokens, positions, slots = [0] * rows, [0] * rows, [self._scratch] * rows
        long = [0] * rows
        for chunk, place in zip(chunks, places, strict=True):
            tokens[place] = chunk.sequence.tokens[chunk.start]
            positions[place] = chunk.start
            slots[place] = chunk.slot
            long[place] = int(chunk.long)
        inputs = [tokens, positions, slots, long]
        self._inputs.copy_(upload(inputs, torch.long, self._inputs.device))

    def layout(self) -> Layout:
        """How attention reads the buffers; part of what is captured."""
        rows, longest = self.shape.rows, self.shape.window
        slots: slice | torch.Tensor = self.slots if self.shape.gather else slice(0, rows)
        window = Window(slots, rows, None, longest, self.positions)
        return Layout(self.slots, self.positions, rows, window, ())
