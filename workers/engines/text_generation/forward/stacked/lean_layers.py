"""Runs the recurrent layers of transformers with less work on a CPU, where their fast kernels do not exist.

Each architecture has the same few functions in a file of its own. For the time of a pass they are replaced
there by others that compute the same numbers.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

from workers.engines.text_generation.forward.stacked import (
    delta_rules,
    short_convolutions,
    state_spaces,
)

UPDATES: Mapping[str, Callable[[Callable[..., Any], Any], Callable[..., Any]]] = {
    "mamba2_selective_state_update": state_spaces.leaner,
    "torch_recurrent_gated_delta_rule": delta_rules.leaner,
    "recurrent_kimi_delta_attention": delta_rules.leaner,
    "causal_conv1d_update": short_convolutions.leaner,
}
"""What computes one token of each row, by its name: made from transformers' own and the file it lies in."""
CHUNKS: Mapping[str, int] = {
    "torch_chunk_gated_delta_rule": 16,
    "chunk_kimi_delta_attention": 8,
}
"""What reads a prompt with a `chunk_size`, and the tokens that are best computed against one another.

Transformers takes 64. Times of a layer of 8 heads of 64 for a prompt of 128 tokens, with chunks of 64, 32,
16 and 8: 3.2, 2.9, 2.6 and 3.3 ms, where a decay is one number a head; 54, 21, 12 and 7 ms where it is one
for each number of a key.
"""


class LeanLayers:
    """The recurrent layers of one model."""

    def __init__(self, model: Any) -> None:
        modules: list[nn.Module] = list(model.modules()) if model.device.type == "cpu" else []
        files = {id(file): file for file in map(_file_of, modules)}.values()
        self._updates = [
            (file, name, make(getattr(file, name), file))
            for name, make in UPDATES.items()
            for file in _having(files, name)
        ]
        self._chunks = [
            (file, name, partial(getattr(file, name), chunk_size=size))
            for name, size in CHUNKS.items()
            for file in _having(files, name)
        ]
        self._mixers = [m for m in modules if state_spaces.has_chunks(m, _file_of(m))]

    @contextmanager
    def reading(self, tokens: int) -> Iterator[None]:
        """A pass in which a prompt of so many tokens is read."""
        with state_spaces.short_chunks(self._mixers, tokens), _replaced(self._chunks):
            yield

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """A pass with one token of each row, in which states are written where they lie."""
        with _replaced(self._updates):
            yield


@contextmanager
def _replaced(functions: Iterable[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    own = [(file, name, getattr(file, name)) for file, name, _ in functions]
    for file, name, function in functions:
        setattr(file, name, function)
    try:
        yield
    finally:
        for file, name, function in own:
            setattr(file, name, function)


def _having(files: Iterable[Any], name: str) -> list[Any]:
    return [file for file in files if hasattr(file, name)]


def _file_of(module: nn.Module) -> Any:
    return sys.modules[type(module).__module__]
