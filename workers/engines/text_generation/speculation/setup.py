"""Decides at load whether a model's texts are drafted: by what the catalogue says and what steps cost."""

import time
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from shared.domain.models.catalog import PromptLookup
from workers.engines.loading.placement import Placement
from workers.engines.row_blocks import wants_fixed_rows
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.forward.packed.runner import PackedRunner
from workers.engines.text_generation.forward.runner import Runner
from workers.engines.text_generation.speculation.costs import Outlook, StepCosts
from workers.engines.text_generation.speculation.drafter import Drafter
from workers.engines.text_generation.transfer import download
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

MIXED = (2, 4, 8, 16)
"""Tokens of a lone text and its draft whose step is measured."""
ROUNDS = 4
"""Over all sizes."""
PATIENCE = 3.0
"""Seconds after which nothing is measured that has been measured once."""
LONE = Outlook(1, 1.0)
"""A step of one text alone."""
TRIAL = (3, 1, 2, 0, 3)
"""A text that is computed token by token and at once, to see whether the bits are the same."""


@dataclass(frozen=True, slots=True)
class Speculation:
    """What was decided. `drafter` is None where there are no drafts; `details` say why."""

    drafter: Drafter | None
    details: dict[str, Any]


def none(reason: str) -> Speculation:
    """No drafts, for this reason."""
    return Speculation(None, {"kind": "none", "reason": reason})


def set_up(
    wanted: PromptLookup | str,
    runner: PackedRunner,
    placement: Placement,
    slots: int,
    length: int,
    budget: int,
) -> Speculation:
    """For a runner that can take tokens back, with slots of `length` tokens; `budget` is tokens a step."""
    if wanted == "none":
        return none("the catalogue says so")
    if length < 2 * max(MIXED):
        return none(f"a text has at most {length} tokens")
    exact = wants_fixed_rows(placement.device, placement.dtype) and same_bits(runner)
    if isinstance(wanted, str) and not exact:
        return none(
            f"in {placement.dtype_name} on {placement.device.type} a logit's last bits depend on how many"
            " tokens run at once, or a lone text is slower; `speculation: {kind: prompt_lookup}` asks for"
            " drafts all the same"
        )
    exact = exact or _made_exact(runner)
    lookup = PromptLookup() if isinstance(wanted, str) else wanted
    costs = measure(runner, slots, length, budget)
    ratio = costs.mixed[max(MIXED)] / costs.single[1]
    if isinstance(wanted, str) and not costs.best(1.0, lookup.longest, LONE).mixed:
        return none(f"a step of {max(MIXED)} tokens costs {ratio:.1f} times one of a token")
    details = {
        "kind": lookup.kind,
        "reason": f"a step of {max(MIXED)} tokens costs {ratio:.1f} times one of a token",
        "ngram": lookup.ngram,
        "longest": lookup.longest,
        "exact": "bitwise" if exact else "to rounding",
    }
    return Speculation(Drafter(costs, lookup.ngram, lookup.longest), details)


def _made_exact(runner: PackedRunner) -> bool:
    """Whether logits no longer depend on a draft once the runner computes rows in a fixed way."""
    if not runner.fix_rows():
        return False
    if same_bits(runner):
        return True
    if runner.fused:
        runner.unfuse()
        if same_bits(runner):
            return True
    runner.free_rows()
    return False


def measure(runner: Runner, slots: int, length: int, budget: int) -> StepCosts:
    """Seconds of steps in the middle of a slot, the shortest of some each.

    They take turns, so that a stretch in which the machine has other work makes no size the dearer one.
    """
    start = min(length // 2, length - max(MIXED))
    crowd = [_chunk(slot, start) for slot in range(slots)]
    single = {1: crowd[:1], slots: crowd}
    mixed = {size: [crowd[0].drafting((0,) * (size - 1))] for size in MIXED}
    if slots > 1:
        longest = min(max(MIXED), budget // slots) - 1
        for drafting, rest in {(1, 1), (1, longest), (slots, longest)}:
            if rest > 0:
                drafts = [chunk.drafting((0,) * rest) for chunk in crowd[:drafting]]
                mixed[slots + drafting * rest] = [*drafts, *crowd[drafting:]]
    steps = [*single.values(), *mixed.values()]
    try:
        shortest = in_turns([partial(_timed, runner, chunks) for chunks in steps])
    finally:
        runner.undo([chunk.drafting((0,) * (max(MIXED) - 1)) for chunk in crowd])
    return StepCosts(
        dict(zip(single, shortest, strict=False)),
        dict(zip(mixed, shortest[len(single) :], strict=True)),
    )


def in_turns(
    timed: Items[Callable[[], float]], clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """The fewest seconds that each of `timed` returned in `ROUNDS` rounds, or in one that took `PATIENCE`."""
    began = clock()
    shortest = [take() for take in timed]
    for _ in range(ROUNDS - 1):
        for place, take in enumerate(timed):
            if clock() - began >= PATIENCE:
                return shortest
            shortest[place] = min(shortest[place], take())
    return shortest


def same_bits(runner: Runner) -> bool:
    """Whether logits do not depend on being computed with a draft: then no text can."""
    sequence = Sequence("trial", [], len(TRIAL), 1, Sampling(seed=0))
    alone: list[torch.Tensor] = []
    for position, token in enumerate(TRIAL):
        sequence.tokens.append(token)
        alone.append(runner.run([Chunk(sequence, 0, position, 1)])[1])
    del sequence.tokens[1:]
    chunk = Chunk(sequence, 0, 0, 1).drafting(TRIAL[1:])
    together = runner.run([chunk])[1]
    runner.undo([chunk])
    return torch.equal(torch.cat(alone), together)


def _chunk(slot: int, start: int) -> Chunk:
    sequence = Sequence(f"trial-{slot}", [0] * (start + 1), 1, start + 1, Sampling(seed=0))
    return Chunk(sequence, slot, start, 1)


def _timed(runner: Runner, chunks: Items[Chunk]) -> float:
    began = time.perf_counter()
    _, logits = runner.run(chunks)
    download(logits[:, 0])
    return time.perf_counter() - began
