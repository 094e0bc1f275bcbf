"""Assembles an engine around a model that is in its place: how it runs, what it takes, what is drafted."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.domain.errors import ConfigError
from shared.domain.models.catalog import Limits, ModelSpec
from workers.engines.base import EngineInfo
from workers.engines.loading.placement import Placement
from workers.engines.loading.positions import longest_text
from workers.engines.text_generation.adapters import Adapters
from workers.engines.text_generation.causality import check_causal
from workers.engines.text_generation.forward.packed.runner import PackedRunner
from workers.engines.text_generation.forward.unpacked import Way
from workers.engines.text_generation.prefixes import public_names
from workers.engines.text_generation.scheduler import Scheduler
from workers.engines.text_generation.speculation.setup import Speculation, none, set_up
from workers.engines.text_generation.way import choose_way, token_budget
from workers.engines.texts.defaults import defaults_of, eos_tokens
from workers.engines.texts.detokenizer import Detokenizer
from workers.engines.texts.input_validator import InputValidator

Validators = dict[str, InputValidator]
"""By the name of an adapter, "" for the model itself."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """Parts of one engine. `vocabulary` counts the model's tokens, `ends` are those that end any text;
    `info` is what the worker is told.
    """

    way: Way
    detokenizer: Detokenizer
    vocabulary: int
    ends: frozenset[int]
    validators: Validators
    scheduler: Scheduler
    info: EngineInfo


def assemble(
    spec: ModelSpec, own: str, tokenizer: Any, model: Any, placement: Placement
) -> Assembly:
    """Find out how a model runs, and set up its cache. `own` is the adapter of jobs that name none, or "".

    Raises `ConfigError` when not even one sequence fits.
    """
    limits, where = spec.limits, f"models.{spec.name}.path"
    check_causal(model, placement, where)
    context = longest_text(model)
    vocabulary = int(model.get_input_embeddings().num_embeddings)
    ends = eos_tokens(model, tokenizer, vocabulary)
    defaults = defaults_of(model, ends, vocabulary, where)
    length = limits.max_prompt_tokens + limits.max_new_tokens
    length = min(length, context) if context else length
    budget = token_budget(spec, placement)
    way, adapters = choose_way(spec, model, placement, length, budget)
    if own in adapters.refused:
        raise ConfigError(adapters.refused[own])
    detokenizer = Detokenizer.of(tokenizer)

    def validator(limits: Limits) -> InputValidator:
        return InputValidator(tokenizer, detokenizer, limits, vocabulary, context, defaults, ends)

    validators = _validators(spec, adapters.names, validator)
    drafts = _drafts(spec, way, placement, length, budget)
    scheduler = _scheduler(spec, way, validators, drafts, budget)
    told = {
        "slot_tokens": length,
        "context": context,
        "token_budget": scheduler.budget,
        "prefix_reuse": _reuses_prefixes(spec, way),
        "speculation": drafts.details,
        "generation_config": defaults.to_json(),
    }
    info = _info(way, placement, validators, adapters, told)
    return Assembly(way, detokenizer, vocabulary, ends, validators, scheduler, info)


def _validators(
    spec: ModelSpec, adapters: Collection[str], of: Callable[[Limits], InputValidator]
) -> Validators:
    """Adapters with the model's limits share its validator."""
    validator = of(spec.limits)
    return {"": validator} | {
        one.name: validator if one.limits == spec.limits else of(one.limits)
        for one in spec.adapters
        if one.name in adapters
    }


def _drafts(
    spec: ModelSpec, way: Way, placement: Placement, length: int, budget: int
) -> Speculation:
    if way.lengths is not None:
        return none("positions of this model depend on how long a text is")
    if isinstance(way.runner, PackedRunner):
        return set_up(spec.speculation, way.runner, placement, way.slots, length, budget)
    return none(f"it needs a packed model, and this one runs {way.batching}")


def _scheduler(
    spec: ModelSpec, way: Way, validators: Validators, drafts: Speculation, budget: int
) -> Scheduler:
    reuse = _reuses_prefixes(spec, way)
    shared = validators[""].shared_beginnings(spec.prefix_cache.shared) if reuse else []
    return Scheduler(
        way.slots,
        budget,
        reuse=reuse,
        public=public_names(shared, list(validators)),
        copies=way.batching != "static",
        rewind=way.rewind,
        as_made=way.batching != "packed",
        drafter=drafts.drafter,
        window=way.lengths.window if way.lengths else None,
        restarts=way.lengths is not None and way.lengths.restarts,
    )


def _reuses_prefixes(spec: ModelSpec, way: Way) -> bool:
    return spec.batch.prefix_reuse and way.batching == "packed"


def _info(
    way: Way,
    placement: Placement,
    validators: Validators,
    adapters: Adapters,
    told: dict[str, Any],
) -> EngineInfo:
    """`told` are details of the parts beyond those of `way`."""
    return EngineInfo(
        # A few more than there are slots, so that a slot that falls free is taken in the next step.
        capacity=way.slots + max(1, way.slots // 4),
        continues=True,
        device=str(placement.device),
        dtype=placement.dtype_name,
        details={
            "batching": way.batching,
            "reason": way.reason,
            "slots": way.slots,
            "slot_state_bytes": way.state_bytes,
            "cuda_graphs": way.graphs,
            **told,
            **_takes(validators[""]),
        },
        adapters={
            name: {"adapter_rank": adapters.ranks[name], **_takes(validators[name])}
            for name in adapters.names
        },
        refused=adapters.refused,
    )


def _takes(validator: InputValidator) -> dict[str, Any]:
    """What the API is told of what a model or an adapter takes."""
    return {
        "prompt_bounds": msgspec.to_builtins(validator.bounds),
        "accepted": msgspec.to_builtins(validator.accepted),
    }
