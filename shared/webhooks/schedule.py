"""What becomes of an attempt to deliver: pure decisions over plain values."""

import random
from dataclasses import dataclass
from typing import Literal

FACTOR = 3.0
GONE = 410
BUSY = 429

Outcome = Literal["delivered", "retry", "dead"]
Fault = Literal[
    "",
    "dns",
    "address",
    "connect",
    "tls",
    "timeout",
    "protocol",
    "redirect",
    "status",
    "unsigned",
    "deleted",
]


@dataclass(frozen=True, slots=True)
class Sent:
    """How a send went: the answer's status, or the kind of fault that kept it from coming.

    `retry_after` and `seconds` (how long it took) are in seconds.
    """

    status: int | None = None
    fault: Fault = ""
    retry_after: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """`delay` is in seconds. `well`: whether the receiver works; None says nothing about it."""

    outcome: Outcome
    delay: float
    fault: Fault
    well: bool | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """When failed deliveries are tried again, in seconds: the first pause, the longest, and for how long."""

    first: float = 5.0
    longest: float = 3 * 3600.0
    span: float = 24 * 3600.0

    def decide(self, sent: Sent, failures: int, age: float) -> Decision:
        """After `failures` earlier failures, `age` seconds after trying began."""
        if sent.status is not None and 200 <= sent.status < 300:
            return Decision("delivered", 0.0, "", well=True)
        fault, well = _fault(sent), _well(sent)
        if sent.status == GONE or sent.fault == "deleted" or age >= self.span:
            return Decision("dead", 0.0, fault, well)
        delay = max(self.pause(failures), min(sent.retry_after or 0.0, self.longest))
        # The last attempt is at the end of the span, never before it.
        return Decision("retry", min(delay, max(self.span - age, 1.0)), fault, well)

    def pause(self, failures: int) -> float:
        """Exponential, half of it at random, so that a receiver that comes back is not overrun."""
        whole = min(self.first * FACTOR ** min(failures, 64), self.longest)
        return whole / 2 + random.uniform(0, whole / 2)  # noqa: S311 - jitter


def _fault(sent: Sent) -> Fault:
    if sent.status is None:
        return sent.fault
    return "redirect" if 300 <= sent.status < 400 else "status"


def _well(sent: Sent) -> bool | None:
    if sent.status is not None:
        return sent.status < 500 and sent.status != BUSY
    # Where nothing was sent, nothing is known of the receiver.
    return None if sent.fault in ("address", "unsigned", "deleted") else False
