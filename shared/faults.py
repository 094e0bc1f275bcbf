"""Named points at which a chaos test kills the process: after the doorbell is taken, after a claim, …

`TRUTHGPT_FAULT=point` or `point:N` kills with SIGKILL when the point is reached for the Nth time. It is
refused unless `TRUTHGPT_TESTING=1` is set too, so no deployment can die of it by accident.
"""

import os
import signal
from collections import Counter
from collections.abc import Mapping

from shared.domain.errors import ConfigError

POINTS = frozenset(
    {
        "created",
        "doorbell_taken",
        "claimed",
        "mid_append",
        "before_finish",
        "after_finish",
        "before_sign_off",
        "delivery_claimed",
        "delivery_sent",
    }
)


class Faults:
    """Counts how often points are reached, and kills at the one that is armed."""

    def __init__(self) -> None:
        self._target: tuple[str, int] | None = None
        self._reached: Counter[str] = Counter()

    def arm(self, environment: Mapping[str, str]) -> None:
        """Take the point from `TRUTHGPT_FAULT`. Raises `ConfigError` for anything unlawful."""
        setting = environment.get("TRUTHGPT_FAULT")
        if not setting:
            return
        if environment.get("TRUTHGPT_TESTING") != "1":
            raise ConfigError(f"TRUTHGPT_FAULT: {setting!r} is for tests only; unset it")
        point, _, count = setting.partition(":")
        if point not in POINTS or not (count or "1").isdecimal() or int(count or "1") < 1:
            known = ", ".join(sorted(POINTS))
            raise ConfigError(
                f"TRUTHGPT_FAULT: {setting!r} is no POINT or POINT:N; points: {known}"
            )
        self._target = point, int(count or "1")

    def reach(self, point: str) -> None:
        """Die here if this is the place and the time."""
        if self._target is None or self._target[0] != point:
            return
        self._reached[point] += 1
        if self._reached[point] == self._target[1]:
            os.kill(os.getpid(), signal.SIGKILL)


faults = Faults()
