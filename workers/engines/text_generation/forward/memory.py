"""Computes how much memory of a device a step needs beside weights and cache."""

import inspect
from typing import Any

import torch

from workers.engines import packed_attention
from workers.engines.text_generation.forward.attention import ShapeProbe

GRAPHS = 512 << 20
"""Bytes for captured graphs and the libraries' work spaces."""
SAMPLER_COPIES = 6
"""Arrays of float64 [slots, vocabulary] that exist at once while tokens are drawn."""


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
    attached = packed_attention.attach(model, ShapeProbe())
    try:
        output = model(
            input_ids=ids,
            position_ids=ids,
            use_cache=False,
            **({"logits_to_keep": slots} if picks else {}),
        )
    finally:
        packed_attention.detach(model, attached)
    peak = int(torch.cuda.max_memory_allocated(device)) - before
    vocabulary = int(output.logits.shape[-1])
    del output, ids
    torch.cuda.empty_cache()
    return peak + GRAPHS + SAMPLER_COPIES * slots * vocabulary * torch.float64.itemsize
