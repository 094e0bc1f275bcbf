"""Decides how a model runs: packed, else stacked, else one text after the other."""

import logging
from dataclasses import replace
from typing import Any

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import ModelSpec
from workers.engines.loading.placement import Placement
from workers.engines.packed_attention import Unpackable
from workers.engines.text_generation.adapter_check import check, samples
from workers.engines.text_generation.adapters import Adapters
from workers.engines.text_generation.forward.packed.packing import packed_runner
from workers.engines.text_generation.forward.packed.runner import PackedRunner
from workers.engines.text_generation.forward.stacked.runner import StackedRunner
from workers.engines.text_generation.forward.trial import TOLERANCE
from workers.engines.text_generation.forward.unpacked import Way, unpacked_runner

AUTO_BUDGET = {"cuda": 2048, "cpu": 256}
"""Tokens in one step: as many as cost little more than the pass over the weights does anyway."""

IN_WORDS = {"stacked": "stacked", "static": "one by one"}
"""How a model runs that is not packed."""

_log = logging.getLogger(__name__)


def token_budget(spec: ModelSpec, placement: Placement) -> int:
    """How many tokens a step may run, by the catalogue or by the device."""
    wanted = spec.batch.token_budget
    return AUTO_BUDGET.get(placement.device.type, 256) if wanted == "auto" else wanted


def choose_way(
    spec: ModelSpec, model: Any, placement: Placement, length: int, budget: int
) -> tuple[Way, Adapters]:
    """The first way that gives the model's own logits, and the adapters that are served in it.

    `length` is tokens a slot, `budget` tokens a step. Raises `ConfigError` when not even one text fits.
    """
    adapters = Adapters(model, spec.adapters, placement.device)
    trials = samples(model, adapters, placement.device) if adapters else []
    try:
        try:
            way = _packed(spec, model, placement, length, budget)
        except Unpackable as error:
            way = unpacked_runner(model, placement, spec.batch.max_size, length)
            way = replace(way, reason=f"{error}; {way.reason}")
    except ConfigError as error:
        raise ConfigError(f"models.{spec.name}: {error.detail}") from None
    if isinstance(way.runner, PackedRunner | StackedRunner):
        if adapters:
            way.runner.adapters = adapters
            check(way.runner, adapters, trials, way.slots, TOLERANCE[placement.dtype])
    else:
        adapters.refuse_all(
            f"its base model runs one text after the other ({way.reason}), and adapters need one that is"
            " packed or stacked; merge it into its base model"
        )
    if way.batching == "packed":
        return way, adapters
    _log.warning("%s is not packed, it runs %s: %s", spec.name, IN_WORDS[way.batching], way.reason)
    return way, adapters


def _packed(spec: ModelSpec, model: Any, placement: Placement, length: int, budget: int) -> Way:
    """Packed. Raises `Unpackable`, `ConfigError`."""
    runner, slots = packed_runner(model, placement, spec.batch.max_size, length, budget)
    return Way(
        runner,
        "packed",
        "packed logits equal plain ones",
        slots,
        graphs=runner.graphs,
        rewind=runner.rewind,
        lengths=runner.lengths,
    )
