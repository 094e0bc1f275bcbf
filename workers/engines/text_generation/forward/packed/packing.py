"""Decides whether a model may be packed: by its configuration first, then by its logits, see `trial`."""

import logging
from collections.abc import Callable
from collections.abc import Sequence as Items
from functools import partial
from typing import Any

import torch

from workers.engines import packed_weights
from workers.engines.loading.placement import Placement
from workers.engines.packed_attention import FAULTS, MASKED, Unpackable
from workers.engines.row_blocks import wants_fixed_rows
from workers.engines.text_generation.forward.indexers import indexers
from workers.engines.text_generation.forward.memory import bytes_of_a_step
from workers.engines.text_generation.forward.packed import attention_layers
from workers.engines.text_generation.forward.packed.attention import ShapeProbe
from workers.engines.text_generation.forward.packed.kv_cache import (
    KvCache,
    LayerShape,
    slots_that_fit,
)
from workers.engines.text_generation.forward.packed.reach import FULL
from workers.engines.text_generation.forward.packed.runner import PackedRunner
from workers.engines.text_generation.forward.rope import LengthDependence, length_dependence
from workers.engines.text_generation.forward.trial import (
    CHECK_TEXTS,
    REACH_TEXTS,
    TOLERANCE,
    largest_error,
    plain_logits,
    raise_out_of_memory,
    random_texts,
    short_reach,
    vocabulary_of,
)
from workers.engines.text_generation.scheduler import SMALLEST_CHUNK

_log = logging.getLogger(__name__)


def packed_runner(
    model: Any, placement: Placement, slots: int, length: int, budget: int = 0
) -> tuple[PackedRunner, int]:
    """A runner whose logits were found right, and how many slots of `length` tokens it has.

    `budget` is how many tokens a step may have: what they need of the memory is left free. Raises
    `Unpackable` with the reason otherwise; the model is then as it was.
    """
    _check_config(model)
    lengths = _lengths(model, length)
    device = placement.device
    step = max(budget, slots + SMALLEST_CHUNK) if budget else 0
    try:
        layers = _probe(model, device, length)
        reserve = bytes_of_a_step(model, budget, slots, device)
    except FAULTS as error:
        raise_out_of_memory(error)
        raise Unpackable(f"a trial run failed: {error}") from error
    scratch = 1 if fixed_shapes(device) else 0
    free = placement.free_bytes()
    if wants_fixed_rows(device, model.dtype):
        free -= packed_weights.copied_bytes(model)
    slots = slots_that_fit(
        layers, slots, length, placement.dtype, free, device, reserve, scratch, step
    )
    tried = _try_reach(model, placement, layers, length, lengths)
    cache = KvCache(layers, slots + scratch, length, placement.dtype, device, step=step)
    runner = _checked(model, cache, placement, CHECK_TEXTS, lengths, tried)
    return runner, slots


def _try_reach(
    model: Any,
    placement: Placement,
    layers: Items[LayerShape],
    length: int,
    lengths: LengthDependence | None,
) -> PackedRunner | None:
    """Try layers that do not see all, over texts that they do not see all of; None where there is none.

    Windows are as long as texts, and the trial must be short. So they are shortened for its time, and read
    off the masks again: what is tried is how a mask becomes a window, and a window attention. In the same
    way positions that depend on a text's length are tried, with long texts beside a short one.
    """
    bounded = [layer for layer, shape in enumerate(layers) if shape.reach != FULL]
    if not bounded and lengths is None:
        return None
    within = min(length, max(map(sum, REACH_TEXTS)))
    with short_reach(model):
        short = _probe(model, placement.device, within)
        for layer in bounded:
            if short[layer].reach == FULL:
                raise Unpackable(f"layer {layer} sees {layers[layer].reach}, which cannot be tried")
        slots = len(REACH_TEXTS) + (1 if fixed_shapes(placement.device) else 0)
        step = max(map(max, REACH_TEXTS))
        cache = KvCache(
            short, slots, within, placement.dtype, placement.device, step=step, rewind=0
        )
        nearer = None if lengths is None else length_dependence(model)
        runner = _checked(model, cache, placement, REACH_TEXTS, nearer)
        runner.detach()
    return runner


def _checked(
    model: Any,
    cache: KvCache,
    placement: Placement,
    cuts: Items[Items[int]],
    lengths: LengthDependence | None,
    tried: PackedRunner | None = None,
) -> PackedRunner:
    """A runner over the cache whose logits are those of the model alone. Raises `Unpackable`.

    What did not work in the runner that was `tried` before is left out.
    """
    texts = random_texts(vocabulary_of(model), cuts, cache.length)
    expected = [plain_logits(model, text, placement.device) for text in texts]
    scratch = 1 if fixed_shapes(placement.device) else 0
    slots = cache.slots - scratch
    runner = PackedRunner(model, cache, placement.device, lengths)
    window = lengths.window if lengths else None
    tolerance = TOLERANCE[placement.dtype]
    trial = partial(largest_error, texts, expected, runner, slots, cuts, window)
    try:
        off = _quickest(runner, trial, tolerance, tried)
        if not off <= tolerance:
            raise Unpackable(f"its packed logits are off by {off:.2g} standard deviations")
    except Unpackable:
        runner.detach()
        raise
    except FAULTS as error:
        runner.detach()
        raise_out_of_memory(error)
        raise Unpackable(f"a packed trial run failed: {error}") from error
    if scratch and (tried is None or tried.climbed):
        _climb(runner, texts, expected, slots, cuts, window, tolerance)
    return runner


def _quickest(
    runner: PackedRunner,
    trial: Callable[[], float],
    tolerance: float,
    tried: PackedRunner | None,
) -> float:
    """Leave the runner in the quickest way in which its logits are right; returns how far off they are.

    Fused layers and the last layer for wanted rows alone come first, as the model runs by itself last.
    """
    ways = [
        (fused, all_rows)
        for fused in (True, False)
        for all_rows in (False, True)
        if (runner.fused or not fused)
        and (tried is None or (tried.fused >= fused and tried.all_rows <= all_rows))
    ]
    off = float("inf")
    for fused, runner.all_rows in ways:
        if not fused:
            runner.unfuse()
        try:
            off = trial()
        except FAULTS as error:
            raise_out_of_memory(error)
            if (fused, runner.all_rows) == ways[-1]:
                raise
            off = float("inf")
        if off <= tolerance:
            break
    return off


def fixed_shapes(device: torch.device) -> bool:
    """Whether steps of single tokens run in fixed shapes: where they can be captured as graphs."""
    return device.type == "cuda"


def _climb(
    runner: PackedRunner,
    texts: Items[Items[int]],
    expected: Items[torch.Tensor],
    slots: int,
    cuts: Items[Items[int]],
    window: int | None,
    tolerance: float,
) -> None:
    """Fixed shapes if they work and are as right as the rest; without them a model is only slower."""
    try:
        runner.climb()
        off = largest_error(texts, expected, runner, slots, cuts, window)
        fault = "" if off <= tolerance else f"logits are off by {off:.2g} standard deviations"
    except FAULTS as error:
        raise_out_of_memory(error)
        fault = str(error)
    if fault:
        _log.warning("decode steps run without CUDA graphs: %s", fault)
        runner.step_down()


def _check_config(model: Any) -> None:
    """What a packed row needs of a model before it can be tried."""
    attention_layers.positions_of(model, torch.zeros(1))
    if not isinstance(getattr(model.config.get_text_config(), "num_hidden_layers", None), int):
        raise Unpackable("its configuration does not say how many layers it has")
    if indexers(model):
        # In texts of a trial, which are short, such layers see all.
        raise Unpackable("its layers choose which tokens they look back on, by what a text says")


def _lengths(model: Any, length: int) -> LengthDependence | None:
    """What positions do to texts of up to `length` tokens, None if nothing. Raises `Unpackable`."""
    lengths = length_dependence(model)
    if lengths is None or length <= lengths.window:
        return None
    if lengths.moving:
        raise Unpackable("its position encoding changes with every token of a long text")
    return lengths


def _probe(model: Any, device: torch.device, length: int) -> list[LayerShape]:
    """Shapes of every layer, and how far back it looks in texts of up to `length` tokens."""
    probe = ShapeProbe(length)
    before = attention_layers.attach(model, probe, MASKED)
    try:
        ids = torch.tensor([0, 1], device=device)
        numbered = attention_layers.positions_of(model, ids)
        model(input_ids=ids[None], use_cache=False, **numbered)
    finally:
        attention_layers.detach(model, before)
    return probe.layers(model.config.get_text_config().num_hidden_layers)
