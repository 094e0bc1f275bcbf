"""Computes how much memory of a device a step needs beside weights and cache."""

import inspect
from typing import Any

import torch

from shared.domain.errors import ConfigError
from workers.engines.loading.placement import Placement
from workers.engines.text_generation.forward.packed import attention_layers
from workers.engines.text_generation.forward.packed.attention import ShapeProbe
from workers.engines.text_generation.forward.packed.kv_cache import MEMORY_SHARE

GRAPHS = 512 << 20
"""Bytes for captured graphs and the libraries' work spaces."""
SAMPLER_COPIES = 6
"""Arrays of float64 [slots, vocabulary] that exist at once while tokens are drawn."""
COPIES = 2
"""A step of stacked texts makes new states beside those it began with."""


def rows_that_fit(wanted: int, states: int, keys: int, placement: Placement) -> int:
    """How many rows of stacked texts fit the memory share, at most `wanted`.

    `states` and `keys` are the bytes of one row. Raises `ConfigError` when not even one fits.
    """
    row = COPIES * states + keys
    share = int(placement.free_bytes() * MEMORY_SHARE.get(placement.device.type, 0.5))
    if row > share:
        raise ConfigError(
            f"one sequence needs {row >> 20} MiB of states, keys and values and {share >> 20} MiB may be"
            " used; lower limits.max_prompt_tokens or max_new_tokens"
        )
    return min(wanted, share // max(row, 1))


def bytes_of_a_step(model: Any, tokens: int, slots: int, device: torch.device) -> int:
    """Measured by running `tokens` tokens through the model, without attention, on CUDA.

    0 on a CPU, whose memory is shared with everyone else and of which the cache takes little.
    """
    if device.type != "cuda" or tokens < 1:
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    ids = torch.zeros(1, tokens, dtype=torch.long, device=device)
    picks = "logits_to_keep" in inspect.signature(model.forward).parameters
    attached = attention_layers.attach(model, ShapeProbe())
    try:
        output = model(
            input_ids=ids,
            use_cache=False,
            **attention_layers.positions_of(model, ids[0]),
            **({"logits_to_keep": slots} if picks else {}),
        )
    finally:
        attention_layers.detach(model, attached)
    peak = int(torch.cuda.max_memory_allocated(device)) - before
    vocabulary = int(output.logits.shape[-1])
    del output, ids
    torch.cuda.empty_cache()
    return peak + GRAPHS + SAMPLER_COPIES * slots * vocabulary * torch.float64.itemsize
