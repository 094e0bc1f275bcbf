"""What is told of a circuit breaker: its states, what an attempt says of its engine, how it stands."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Verdict = Literal["success", "failure", "lost", "collateral", "ignored"]
"""What an ended attempt says of its engine.

`lost`: the engine host is gone, said once for all whom it held. `collateral`: it failed but brings no news,
being one of the others or failing again; only a probe fails by it. `ignored`: nothing, such as a cancel or an
input that was refused.
"""


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """A breaker as operators see it. `since` and `until` are ms by the breaker's clock; `until` is the end
    of the cool-down, 0 while closed. `wait` is how many ms must pass before another attempt may be tried.
    """

    state: BreakerState = BreakerState.CLOSED
    consecutive_failures: int = 0
    successes: int = 0
    failures: int = 0
    opened: int = 0
    since: int = 0
    until: int = 0
    wait: int = 0
