"""Circuit breakers: keep work away from a model, or from one worker, that only fails at it.

Closed, open and half-open are Nygard's (Release It!, 2007). The model's breaker is shared by all its workers
and counts in Redis (lua/lib/breaker.lua); `Breaker` here is a worker's own, which counts failures in a row.
None reads a clock: whoever asks says what time it is, in ms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from shared.domain.breaker import BreakerState, BreakerStatus, Verdict
from shared.domain.models.catalog import ModelSpec

SLOTS = 10
"""Parts of the sliding window of a model's breaker; one of them passes at a time."""
MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to open and for how long, and the model's retry budget. Times in ms.

    Opens after `threshold` failures in a row, or, the model's, when a share of `rate` of at least `volume`
    attempts within `window` failed. `cooldown` doubles with each opening up to `longest`.
    `retry_floor` and `retry_ratio` of the attempts in the window may be tried again per window.
    """

    threshold: int = 5
    cooldown: int = 60_000
    longest: int = 600_000
    rate: float = 0.5
    volume: int = 20
    window: int = 60_000
    retry_ratio: float = 0.1
    retry_floor: int = 10

    @classmethod
    def of(cls, spec: ModelSpec) -> Self:
        """The policy that a model's catalogue entry states."""
        given = spec.breaker
        return cls(
            given.failure_threshold,
            max(1, round(given.timeout_sec * 1000)),
            max(1, round(max(given.timeout_sec, given.max_timeout_sec) * 1000)),
            given.failure_rate,
            given.minimum_volume,
            max(SLOTS, round(given.window_sec * 1000)),
            spec.retries.budget_ratio,
            spec.retries.budget_floor,
        )

    @property
    def packed(self) -> str:
        """The policy as one argument of a script (lua/lib/breaker.lua)."""
        return (
            f"{self.threshold} {self.cooldown} {self.longest} {self.rate!r} {self.volume} "
            f"{self.window} {self.retry_ratio!r} {self.retry_floor}"
        )


@dataclass(slots=True)
class Breaker:
    """A worker's own: opens after `threshold` failures in a row, and then tries one attempt at a time.

    Not safe by itself between threads: its owner's lock guards it, and no call is made under that lock.
    In half-open one *holder* may probe; its claim to that ends with `probe_until`.
    """

    state: BreakerState = BreakerState.CLOSED
    consecutive: int = 0
    successes: int = 0
    failures: int = 0
    opened: int = 0
    streak: int = 0
    """Openings since the breaker last stayed closed for as long as its cool-down was."""
    changed: int = 0
    until: int = 0
    probe: str = ""
    probe_until: int = 0

    def wait(self, now: int) -> int:
        """How long to wait before another attempt may begin; 0: now, in half-open as the probe."""
        if self.state is BreakerState.OPEN and now >= self.until:
            self.state, self.changed, self.probe = BreakerState.HALF_OPEN, self.until, ""
        match self.state:
            case BreakerState.CLOSED:
                return 0
            case BreakerState.OPEN:
                return self.until - now
        return max(0, self.probe_until - now) if self.probe else 0

    def begin(self, now: int, holder: str, lease: int) -> None:
        """An attempt begins; in half-open it is the probe for `lease` ms. Only after `wait` said 0."""
        if self.state is BreakerState.HALF_OPEN:
            self.probe, self.probe_until = holder, now + lease

    def record(self, policy: BreakerPolicy, now: int, holder: str, verdict: Verdict) -> None:
        """Count how an attempt ended, and open or close the breaker by it."""
        self.wait(now)
        half_open = self.state is BreakerState.HALF_OPEN
        probing = half_open and self.probe == holder != ""
        if verdict == "ignored" and probing:
            self.probe = ""
        if verdict == "ignored" or (verdict == "collateral" and not probing):
            return
        if verdict == "success":
            self.successes += 1
            self.consecutive = 0 if self.state is BreakerState.CLOSED else self.consecutive
            if probing:
                self._close(now)
            return
        self.failures += verdict != "collateral"
        if self.state is BreakerState.CLOSED:
            self.consecutive += 1
            if self.consecutive >= policy.threshold:
                if now - self.changed >= cooldown(policy, self.streak):
                    self.streak = 0
                self._open(policy, now)
        elif probing or (half_open and verdict == "lost"):
            self._open(policy, now)

    def reset(self, now: int) -> None:
        """Close it by hand; the statistics stay."""
        self._close(now)
        self.streak = 0

    def status(self, now: int) -> BreakerStatus:
        """State, statistics and the wait until the next probe, for routes and metrics."""
        wait = self.wait(now)
        until = self.until if self.state is not BreakerState.CLOSED else 0
        counts = (self.consecutive, self.successes, self.failures, self.opened)
        return BreakerStatus(self.state, *counts, self.changed, until, wait)

    @classmethod
    def parse(cls, fields: Mapping[bytes, bytes]) -> Self:
        """What a model's breaker has in common with this one, from its hash in Redis: to be shown."""
        texts = {name.decode(): value.decode() for name, value in fields.items()}
        numbers = {
            name: int(texts.get(name, 0))
            for name in (
                *("consecutive", "successes", "failures", "opened", "streak", "changed", "until"),
                "probe_until",
            )
        }
        state = BreakerState(texts.get("state", "closed"))
        return cls(state=state, probe=texts.get("probe", ""), **numbers)

    def _open(self, policy: BreakerPolicy, now: int) -> None:
        self.streak += 1
        self.opened += 1
        self.state, self.changed, self.probe = BreakerState.OPEN, now, ""
        self.until = now + cooldown(policy, self.streak)

    def _close(self, now: int) -> None:
        self.state, self.changed, self.probe = BreakerState.CLOSED, now, ""
        self.consecutive = 0


def cooldown(policy: BreakerPolicy, streak: int) -> int:
    """The cool-down (ms) of the `streak`th opening in a row; 0 before the first."""
    if streak == 0:
        return 0
    return int(min(policy.longest, policy.cooldown * 2 ** min(streak - 1, MAX_DOUBLINGS)))
