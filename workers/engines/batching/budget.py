"""How much an engine may put into one step: halved when memory runs out, grown back slowly."""

import math
from dataclasses import dataclass

GROW_AFTER = 200
"""Good steps, at least half full, before the budget grows."""
GROWTH = 1.125
DOUBT = 32
"""How many times the growth is put off before it reaches again what once did not fit."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What is worth keeping over restarts. `ceiling`: the smallest step that did not fit."""

    now: float
    ceiling: float | None = None


class Budget:
    """The bound of one step in the engine's own unit (tokens, costs).

    The engine plans within `now` and calls `spend` for what it planned, before it runs. Who drives the
    engine says `shrink` when a step ran out of memory and `passed` when one went well. One piece of
    work that is larger than the budget runs alone.
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self.now = most
        self._spent = 0.0
        self._least = 0.0
        self._ceiling = math.inf
        self._good = 0
        self._doubts = 0

    def spend(self, amount: float, least: float) -> None:
        """The coming step takes `amount`; with the work at hand it can be no smaller than `least`."""
        self._spent, self._least = amount, least

    def shrink(self) -> bool:
        """Halve what did not fit. False when the step was as small as it can be."""
        failed = self._spent or self.now
        if failed <= max(self._least, 1.0) or math.isinf(failed):
            return False
        self._ceiling = min(self._ceiling, failed)
        self.now = min(self.now, max(failed / 2, self._least))
        self._good = self._doubts = 0
        return True

    def passed(self) -> bool:
        """A step went well. True when the budget has grown by it."""
        if self.now >= self.most or self._spent < self.now / 2:
            return False
        self._good += 1
        if self._good < GROW_AFTER:
            return False
        self._good = 0
        grown = min(self.most, self.now * GROWTH)
        if grown >= self._ceiling:
            self._doubts += 1
            if self._doubts < DOUBT:
                return False
            self._ceiling = math.inf
        self._doubts = 0
        self.now = grown
        return True

    @property
    def learned(self) -> Learned | None:
        """None when there is nothing to remember."""
        if self.now >= self.most:
            return None
        return Learned(self.now, None if math.isinf(self._ceiling) else self._ceiling)

    def recall(self, learned: Learned) -> None:
        """Go on where an earlier process ended."""
        self.now = min(self.most, max(1.0, learned.now))
        self._ceiling = math.inf if learned.ceiling is None else learned.ceiling
