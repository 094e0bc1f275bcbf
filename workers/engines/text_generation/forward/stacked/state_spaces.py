"""Mamba-2 layers with less work than transformers' fallbacks.

These compute what is the same for a whole head once for every number of the head's state, and pad
each prompt to a whole chunk of 256 tokens. A step of 16 texts then moves gigabytes through memory. Here a
row's state is updated in place while the processor's cache has it, and chunks are as short as the prompt
allows. The recurrence is that of "Transformers are SSMs" (https://arxiv.org/abs/2405.21060), section 2.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

UPDATE = "mamba2_selective_state_update"
"""What transformers' files call it that have such layers."""
CHUNK = 64
"""Tokens of a prompt that are computed against one another; what comes before them is in the state."""
SHORTEST = 8


def has_chunks(module: torch.nn.Module, file: Any) -> bool:
    """Whether a module of a file is a layer that reads a prompt in chunks of its `chunk_size` tokens."""
    return hasattr(file, UPDATE) and isinstance(getattr(module, "chunk_size", None), int)


@contextmanager
def short_chunks(layers: Sequence[Any], tokens: int) -> Iterator[None]:
    """A pass in which a prompt of so many tokens is read."""
    wanted = max(SHORTEST, min(CHUNK, 1 << (tokens - 1).bit_length()))
    before = [layer.chunk_size for layer in layers]
    for layer, size in zip(layers, before, strict=True):
        layer.chunk_size = min(size, wanted)
    try:
        yield
    finally:
        for layer, size in zip(layers, before, strict=True):
            layer.chunk_size = size


def leaner(own: Callable[..., torch.Tensor], _file: Any) -> Callable[..., torch.Tensor]:
    """`own`, with less work where decay and step are one number for each head."""

    def update(
        state: torch.Tensor,
        hidden_states: torch.Tensor,
        dt: torch.Tensor,
        A: torch.Tensor,  # noqa: N803  the names are transformers'
        B: torch.Tensor,  # noqa: N803
        C: torch.Tensor,  # noqa: N803
        D: torch.Tensor | None = None,  # noqa: N803
        **options: Any,
    ) -> torch.Tensor:
        z, bias = options.get("z"), options.get("dt_bias")
        by_head = A.stride()[-2:] == (0, 0) and dt.stride(-1) == 0 and A.dim() == 3
        by_head = by_head and (bias is None or bias.stride(-1) == 0)
        whole = all(t.dtype == torch.float32 for t in (state, hidden_states, dt, A, B, C))
        if not (by_head and whole and z is None and options.get("dt_softplus")):
            return own(state, hidden_states, dt, A, B, C, D, **options)
        step = functional.softplus(dt[..., 0] if bias is None else dt[..., 0] + bias[..., 0])
        out = _updated(state, hidden_states, step, A[:, 0, 0], B, C)
        return out if D is None else out + hidden_states * D

    return update


def _updated(
    states: torch.Tensor,
    inputs: torch.Tensor,
    steps: torch.Tensor,
    decay: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
) -> torch.Tensor:
    """States [rows, heads, width, N] move on in place; returns what they say, [rows, heads, width].

    `inputs` are [rows, heads, width], `steps` [rows, heads], `decay` [heads], `b` and `c` [rows, groups, N].
    """
    heads = states.shape[1]
    kept = torch.exp(steps * decay)[..., None, None]
    new = (inputs * steps[..., None])[..., None]
    b, c = (part.repeat_interleave(heads // part.shape[1], dim=1) for part in (b, c))
    said: list[torch.Tensor] = []
    for row, state in enumerate(states):
        state.mul_(kept[row]).addcmul_(new[row], b[row, :, None])
        said.append(torch.bmm(state, c[row, :, :, None]))
    return torch.stack(said).squeeze(-1)
