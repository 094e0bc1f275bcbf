"""An engine of ours without queue and network: driven as the host's loop drives it, and timed."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from workers.engines.base import Engine, Finished, Work
from workers.host.isolation import Isolation


class Failed(Exception):
    """A subject did not do its work; nothing is compared then."""


@dataclass(slots=True)
class Driven:
    """What each job brought; `began` its text and `ended`, in seconds from when all were handed in.

    `broke` has the error codes of those that were meant to fail.
    """

    tokens: dict[str, list[int]] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    broke: dict[str, str] = field(default_factory=dict)
    completion_tokens: int = 0
    cached_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    seconds: float = 0.0


def drive(
    engine: Engine | Isolation,
    works: Sequence[Work],
    capacity: int,
    meant_to_fail: Collection[str] = (),
) -> Driven:
    """All works at once, no more than `capacity` of them inside.

    Raises `Failed` when a job does that was not meant to.
    """
    driven = Driven(tokens={work.id: [] for work in works})
    waiting = list(reversed(works))
    began = time.perf_counter()
    while waiting or engine.pending():
        while waiting and engine.pending() < capacity:
            engine.admit(waiting.pop())
        step = engine.step()
        now = time.perf_counter() - began
        for piece in step.pieces:
            driven.tokens[piece.id] += piece.token_ids
            driven.began.setdefault(piece.id, now)
        for outcome in step.outcomes:
            if not isinstance(outcome, Finished):
                if outcome.id in meant_to_fail:
                    driven.broke[outcome.id] = outcome.code
                    continue
                raise Failed(f"{outcome.id}: {outcome.code}: {outcome.message}")
            driven.ended[outcome.id] = now
            driven.outputs[outcome.id] = outcome.output
            driven.completion_tokens += outcome.usage.get("completion_tokens", 0)
            driven.cached_tokens += outcome.usage.get("cached_tokens", 0)
            driven.drafted_tokens += outcome.usage.get("drafted_tokens", 0)
            driven.accepted_tokens += outcome.usage.get("accepted_tokens", 0)
    driven.seconds = time.perf_counter() - began
    return driven
