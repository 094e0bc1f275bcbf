"""Decides whether a model may be packed: by its configuration first, then by its logits.

Logits and not tokens are compared: a model without its position bias can still pick the same tokens
for a while.
"""

import inspect
import logging
from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Any

import torch

from workers.engines import packed_attention
from workers.engines.loading.placement import Placement
from workers.engines.packed_attention import FAULTS, Unpackable
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.forward.attention import ShapeProbe
from workers.engines.text_generation.forward.kv_cache import KvCache, LayerShape, slots_that_fit
from workers.engines.text_generation.forward.memory import bytes_of_a_step
from workers.engines.text_generation.forward.rope import AS_MADE, length_dependence
from workers.engines.text_generation.forward.runner import PackedRunner, Runner
from workers.engines.text_generation.forward.static import StaticRunner
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

_log = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 0.1}
"""Largest root mean square difference at a position, in standard deviations of its logits.

Right models differ only in the order of additions: measured 4e-6, 0.004 and 0.03 with 12 random
layers. Scores scaled by 0.9 are off by 0.05 to 0.35, a sliding window left out by 0.9.
"""
CHECK_TEXTS = ((5, 1, 1, 1, 1), (9, 8, 1, 1, 7), (1, 20, 1, 9, 1))
"""How three random texts are cut into steps: prefill, chunks after a prefix and decodes, mixed."""
STATIC_TEXTS = ((6, 1, 1, 1, 1), (17, 1, 1, 1), (1, 1, 1, 1, 1))
"""How texts are cut where one runs after the other: a prompt is run whole there."""
GENERATED = 5
"""Tokens that transformers' own loop is asked for, where its cache does not do what a text alone does."""


def packed_runner(
    model: Any, placement: Placement, slots: int, length: int, budget: int = 0
) -> tuple[PackedRunner, int]:
    """A runner whose logits were found right, and how many slots of `length` tokens it has.

    `budget` is how many tokens a step may have: what they need of the memory is left free. Raises
    `Unpackable` with the reason otherwise; the model is then as it was.
    """
    config = model.config.get_text_config()
    _check_config(model, config, length)
    try:
        layers = _probe(model, placement.device, config.num_hidden_layers)
        reserve = bytes_of_a_step(model, budget, slots, placement.device)
    except FAULTS as error:
        _raise_out_of_memory(error)
        raise Unpackable(f"a trial run failed: {error}") from error
    scratch = 1 if fixed_shapes(placement.device) else 0
    slots = slots_that_fit(
        layers,
        slots,
        length,
        placement.dtype,
        placement.free_bytes(),
        placement.device,
        reserve,
        scratch,
    )
    texts = _random_texts(_vocabulary(model), CHECK_TEXTS, length)
    expected = [_plain_logits(model, text, placement.device) for text in texts]
    cache = KvCache(layers, slots + scratch, length, placement.dtype, placement.device)
    runner = PackedRunner(model, cache, placement.device)
    try:
        off = largest_error(texts, expected, runner, slots)
        if not off <= TOLERANCE[placement.dtype]:
            raise Unpackable(f"its packed logits are off by {off:.2g} standard deviations")
    except Unpackable:
        runner.detach()
        raise
    except FAULTS as error:
        runner.detach()
        _raise_out_of_memory(error)
        raise Unpackable(f"a packed trial run failed: {error}") from error
    if scratch:
        _climb(runner, texts, expected, slots, TOLERANCE[placement.dtype])
    return runner, slots


def fixed_shapes(device: torch.device) -> bool:
    """Whether steps of single tokens run in fixed shapes: where they can be captured as graphs."""
    return device.type == "cuda"


def _climb(
    runner: PackedRunner,
    texts: Items[Items[int]],
    expected: Items[torch.Tensor],
    slots: int,
    tolerance: float,
) -> None:
    """Fixed shapes if they work and are as right as the rest; without them a model is only slower."""
    try:
        runner.climb()
        off = largest_error(texts, expected, runner, slots)
        fault = "" if off <= tolerance else f"logits are off by {off:.2g} standard deviations"
    except FAULTS as error:
        _raise_out_of_memory(error)
        fault = str(error)
    if fault:
        _log.warning("decode steps run without CUDA graphs: %s", fault)
        runner.step_down()


def static_runner(model: Any, placement: Placement, slots: int) -> StaticRunner:
    """A runner for a model that cannot be packed; without transformers' cache if that gets it wrong.

    Some architectures compute a token that follows a cache otherwise than within a text. What `generate`
    says is taken then, and a text that is taken up again is read as it was made.
    """
    lengths = length_dependence(model)
    within = max(map(sum, STATIC_TEXTS)) if lengths is None else lengths.window
    texts = _random_texts(_vocabulary(model), STATIC_TEXTS, within)
    expected = [_plain_logits(model, text, placement.device) for text in texts]
    runner = StaticRunner(model, placement.device, lengths=lengths)
    if _agrees(runner, texts, expected, slots, placement.dtype):
        return runner
    runner = StaticRunner(model, placement.device, lengths=lengths or AS_MADE)
    # Two of them, in turns: an architecture may keep what it has read in its own modules.
    prompts = texts[:2]
    made = [_generated(model, prompt, placement.device) for prompt in prompts]
    cuts = [(len(prompt), *[1] * GENERATED) for prompt in prompts]
    read, wanted = [text for text, _ in made], [logits for _, logits in made]
    if _agrees(runner, read, wanted, slots, placement.dtype, cuts):
        return runner
    return StaticRunner(model, placement.device, cached=False, lengths=lengths)


def _agrees(
    runner: StaticRunner,
    texts: Items[Items[int]],
    expected: Items[torch.Tensor],
    slots: int,
    dtype: torch.dtype,
    cuts: Items[Items[int]] = STATIC_TEXTS,
) -> bool:
    try:
        return largest_error(texts, expected, runner, slots, cuts) <= TOLERANCE[dtype]
    except FAULTS as error:
        _raise_out_of_memory(error)
        return False


def _generated(
    model: Any, prompt: Items[int], device: torch.device
) -> tuple[list[int], torch.Tensor]:
    """A text by transformers' own loop but its last token, and float32 [its length, vocabulary].

    Those of the prompt are zeros, save for its last token's.
    """
    ids = torch.tensor([prompt], device=device)
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=GENERATED,
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    logits = torch.cat(found.logits).float()
    unknown = logits.new_zeros(len(prompt) - 1, logits.shape[1])
    return found.sequences[0, :-1].tolist(), torch.cat([unknown, logits])


def largest_error(
    texts: Items[Items[int]],
    expected: Items[torch.Tensor],
    runner: Runner,
    slots: int,
    cuts: Items[Items[int]] = CHECK_TEXTS,
) -> float:
    """How far the runner's logits are from `expected`, one [length, vocabulary] a text.

    The texts run side by side, cut into steps as `cuts` say, as many as there are slots, the second one
    in the last slot. The unit is explained at `TOLERANCE`.
    """
    worst = 0.0
    places = [0, *range(slots - 1, 0, -1)][: len(texts)]
    sequences = [
        Sequence(str(slot), [], cut[0], 1, Sampling(seed=0))
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
                chunks.append(Chunk(sequence, slot, start, len(new)))
                wanted[sequence.id] = expected[index][len(sequence.tokens) - 1]
        if not chunks:
            break
        rows, logits = runner.run(chunks)
        for row, found in zip(rows, logits, strict=True):
            right = wanted[row.sequence.id]
            error = (found - right).pow(2).mean().sqrt() / right.std().clamp_min(1e-6)
            worst = max(worst, float(error)) if torch.isfinite(error) else float("inf")
    return worst


def _check_config(model: Any, config: Any, length: int) -> None:
    """What a short trial cannot show, since it only matters in long texts or in some layers."""
    parameters = inspect.signature(model.forward).parameters
    if "position_ids" not in parameters:
        raise Unpackable(f"{type(model).__name__} takes no position ids")
    if not isinstance(getattr(config, "num_hidden_layers", None), int):
        raise Unpackable("its configuration does not say how many layers it has")
    bounds: dict[str, Callable[[], Any]] = {
        "full_attention": lambda: length,
        "sliding_attention": lambda: getattr(config, "sliding_window", None),
        "chunked_attention": lambda: getattr(config, "attention_chunk_size", None),
    }
    for kind in sorted(set(getattr(config, "layer_types", None) or ())):
        reach = bounds.get(kind, lambda: 0)() or 0
        if reach < length:
            raise Unpackable(f"its layers of {kind} reach {reach} of {length} tokens")
    lengths = length_dependence(model)
    if lengths is not None and length > lengths.window:
        raise Unpackable("its position encoding changes with the longest text of the batch")


def _probe(model: Any, device: torch.device, layers: int) -> list[LayerShape]:
    probe = ShapeProbe()
    before = packed_attention.attach(model, probe)
    try:
        ids = torch.tensor([[0, 1]], device=device)
        model(input_ids=ids, position_ids=torch.tensor([[0, 1]], device=device), use_cache=False)
    finally:
        packed_attention.detach(model, before)
    return probe.layers(layers)


def _random_texts(vocabulary: int, cuts: Items[Items[int]], length: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    sizes = [min(sum(parts), length) for parts in cuts]
    return [torch.randint(vocabulary, (n,), generator=generator).tolist() for n in sizes]


def _plain_logits(model: Any, text: Items[int], device: torch.device) -> torch.Tensor:
    """float32 [length, vocabulary] of a text alone, through the model's own attention."""
    ids = torch.tensor([text], device=device)
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    return logits


def _vocabulary(model: Any) -> int:
    return int(model.get_input_embeddings().num_embeddings)


def _raise_out_of_memory(error: Exception) -> None:
    """Memory that ran out says nothing about the model."""
    if isinstance(error, torch.OutOfMemoryError):
        raise error
