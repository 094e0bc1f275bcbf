"""Decides when an engine host holds too much memory. Pure: measurements in, verdicts out."""

from typing import Literal

DRAIN_SECONDS = 20.0
"""How long a host over its limit may take to finish what it holds."""
HARD_LIMIT = 1.25
"""Times the limit, above which a host is killed at once."""
IDLE_PULSES = 2
"""Pulses without a job, after which nothing can be on its way to the host any more."""

Verdict = Literal["fine", "drain", "replace", "kill"]


class MemoryLimit:
    """Watches one host. `limit` is in bytes of resident memory, None for no limit."""

    def __init__(self, limit: int | None, drain_seconds: float = DRAIN_SECONDS) -> None:
        self._limit = limit
        self._drain_seconds = drain_seconds
        self._until: float | None = None
        self._idle = 0

    @property
    def draining(self) -> bool:
        return self._until is not None

    def pulse(self, pending: int) -> None:
        """The host said how many jobs it holds."""
        self._idle = 0 if pending else self._idle + 1

    def judge(self, memory: int, now: float) -> Verdict:
        """What to do with a host that holds `memory` bytes at `now` (s).

        `drain` is said once; from then on the host should take no more jobs, until `replace`.
        """
        if self._limit is None:
            return "fine"
        if memory > self._limit * HARD_LIMIT:
            return "kill"
        if self._until is None:
            if memory <= self._limit:
                return "fine"
            self._until = now + self._drain_seconds
            self._idle = 0
            return "drain"
        return "replace" if self._idle >= IDLE_PULSES or now >= self._until else "fine"
