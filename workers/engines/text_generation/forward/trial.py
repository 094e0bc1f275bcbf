"""Holds a runner's logits against those of the model's own forward pass.

Logits and not tokens are compared: a model without its position bias can still pick the same tokens
for a while.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from typing import Any

import torch

from workers.engines.loading.positions import rope_parts
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.forward.runner import Runner
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 0.1}
"""Largest root mean square difference at a position, in standard deviations of its logits.

Right models differ only in the order of additions: measured 4e-6, 0.004 and 0.03 with 12 random
layers. Scores scaled by 0.9 are off by 0.05 to 0.35, a sliding window left out by 0.9.
"""
CHECK_TEXTS = ((5, 1, 1, 1, 1), (9, 8, 1, 1, 7), (1, 20, 1, 9, 1))
"""How three random texts are cut into steps: prefill, chunks after a prefix and decodes, mixed."""
SHORT_REACH = 8
"""Tokens that a layer sees which does not see all, for the time of a trial."""
REACH_TEXTS = ((5, 1, 1), (9, 8, 1, 1, 7, 9), (1, 20, 1, 19, 1, 6))
"""All but the first cross several windows of `SHORT_REACH`, and go around a ring that holds one."""
BOUNDS = ("sliding_window", "attention_chunk_size", "window_size")
"""What transformers makes the masks of such layers of, whatever the architecture; the last is GPT-Neo's."""
FIRST_LENGTH = "original_max_position_embeddings"
"""Beyond how many tokens longrope changes its frequencies."""


@contextmanager
def short_reach(model: Any) -> Iterator[None]:
    """A model whose windows and chunks are `SHORT_REACH` tokens, so that short texts cross them.

    Texts of more tokens than that are long ones too, for a model whose positions tell them apart.
    """
    owners = [module.config for module in model.modules() if hasattr(module, "config")]
    configs = {id(config): config for config in [*owners, model.config.get_text_config()]}
    kept: list[tuple[Any, str, int]] = []
    for config in configs.values():
        for name in BOUNDS:
            bound = getattr(config, name, None)
            if isinstance(bound, int) and bound > SHORT_REACH:
                kept.append((config, name, bound))
                setattr(config, name, SHORT_REACH)
        if isinstance(first := getattr(config, FIRST_LENGTH, None), int):
            kept.append((config, FIRST_LENGTH, first))
            setattr(config, FIRST_LENGTH, min(first, SHORT_REACH))
    masks = [(layer, layer.bias) for layer in model.modules() if _has_window_in_buffer(layer)]
    for layer, mask in masks:
        layer.bias = mask & ~mask.tril(-SHORT_REACH)
    parts = {id(part): part for config in configs.values() for part in rope_parts(config)}
    firsts = [(part, part[FIRST_LENGTH]) for part in parts.values() if _by_length(part)]
    for part, first in firsts:
        part[FIRST_LENGTH] = min(first, SHORT_REACH)
    try:
        yield
    finally:
        for part, first in firsts:
            part[FIRST_LENGTH] = first
        for config, name, bound in kept:
            setattr(config, name, bound)
        for layer, mask in masks:
            layer.bias = mask


def _has_window_in_buffer(layer: Any) -> bool:
    """Whether a layer, as GPT-Neo's, has its window as a mask [1, 1, n, n] that it made when it was built."""
    return getattr(layer, "attention_type", None) == "local" and "bias" in layer._buffers


def _by_length(part: dict[str, Any]) -> bool:
    return part.get("rope_type") == "longrope" and isinstance(part.get(FIRST_LENGTH), int)


def largest_error(
    texts: Items[Items[int]],
    expected: Items[torch.Tensor],
    runner: Runner,
    slots: int,
    cuts: Items[Items[int]] = CHECK_TEXTS,
    window: int | None = None,
) -> float:
    """How far the runner's logits are from `expected`, one [length, vocabulary] a text.

    The texts run side by side, cut into steps as `cuts` say (0: not in that step), as many as there are
    slots, the second one in the last slot. The unit is explained at `TOLERANCE`. Texts of more than
    `window` tokens are read as long ones from the first token on.
    """
    worst = 0.0
    places = [0, *range(slots - 1, 0, -1)][: len(texts)]
    sequences = [
        Sequence(str(slot), [], next(filter(None, cut)), 1, Sampling(seed=0))
        for slot, cut in zip(places, cuts, strict=False)
    ]
    for turn in range(max(map(len, cuts))):
        chunks: list[Chunk] = []
        wanted: dict[str, torch.Tensor] = {}
        for index, (slot, sequence) in enumerate(zip(places, sequences, strict=True)):
            start, size = len(sequence.tokens), sum(cuts[index][turn : turn + 1])
            new = texts[index][start : start + size]
            if new:
                sequence.tokens += new
                long = window is not None and len(texts[index]) > window
                chunks.append(Chunk(sequence, slot, start, len(new), long=long))
                wanted[sequence.id] = expected[index][len(sequence.tokens) - 1]
        if not chunks:
            break
        rows, logits = runner.run(chunks)
        for row, found in zip(rows, logits, strict=True):
            right = wanted[row.sequence.id]
            error = (found - right).pow(2).mean().sqrt() / right.std().clamp_min(1e-6)
            worst = max(worst, float(error)) if torch.isfinite(error) else float("inf")
    return worst


def random_texts(vocabulary: int, cuts: Items[Items[int]], length: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    sizes = [min(sum(parts), length) for parts in cuts]
    return [torch.randint(vocabulary, (n,), generator=generator).tolist() for n in sizes]


def plain_logits(model: Any, text: Items[int], device: torch.device) -> torch.Tensor:
    """float32 [length, vocabulary] of a text alone, through the model's own attention."""
    ids = torch.tensor([text], device=device)
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    return logits


def vocabulary_of(model: Any) -> int:
    return int(model.get_input_embeddings().num_embeddings)


def raise_out_of_memory(error: Exception) -> None:
    """Memory that ran out says nothing about the model, or the adapter, that is tried."""
    if isinstance(error, torch.OutOfMemoryError):
        raise error
