"""Decides whether a model may be packed: by its configuration first, then by its logits, see `trial`."""

import inspect
import logging
from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Any

import torch

from workers.engines import packed_attention
from workers.engines.loading.placement import Placement
from workers.engines.packed_attention import FAULTS, Unpackable
from workers.engines.text_generation.forward.attention import ShapeProbe
from workers.engines.text_generation.forward.kv_cache import KvCache, LayerShape, slots_that_fit
from workers.engines.text_generation.forward.memory import bytes_of_a_step
from workers.engines.text_generation.forward.rope import length_dependence
from workers.engines.text_generation.forward.runner import PackedRunner
from workers.engines.text_generation.forward.trial import (
    CHECK_TEXTS,
    TOLERANCE,
    largest_error,
    plain_logits,
    raise_out_of_memory,
    random_texts,
    vocabulary_of,
)

_log = logging.getLogger(__name__)


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
        raise_out_of_memory(error)
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
    texts = random_texts(vocabulary_of(model), CHECK_TEXTS, length)
    expected = [plain_logits(model, text, placement.device) for text in texts]
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
        raise_out_of_memory(error)
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
        raise_out_of_memory(error)
        fault = str(error)
    if fault:
        _log.warning("decode steps run without CUDA graphs: %s", fault)
        runner.step_down()


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
