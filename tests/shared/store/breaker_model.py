"""What the model's breaker in Redis does (shared/store/lua/lib/breaker.lua), in plain Python.

It reads no clock: whoever asks says what time it is, in ms.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from shared.domain.breaker import BreakerState, BreakerStatus, Verdict
from shared.store.breaker import SLOTS, BreakerPolicy, cooldown

Slot = tuple[int, int, int]
"""A part of the window: its number, its successes, its failures."""


@dataclass(slots=True)
class Breaker:
    """The machine. Not safe by itself between threads: its owner's lock guards it, and no call is made
    under that lock. In half-open one *holder* may probe; its claim to that ends with `probe_until`.
    """

    state: BreakerState = BreakerState.CLOSED
    consecutive: int = 0
    window: tuple[Slot, ...] = ()
    successes: int = 0
    failures: int = 0
    opened: int = 0
    streak: int = 0
    """Openings since the breaker last stayed closed for as long as its cool-down was."""
    changed: int = 0
    until: int = 0
    probe: str = ""
    probe_until: int = 0
    source: str = ""
    """The worker that failed last."""
    source_at: int = 0
    other_at: int = 0
    """When another worker than `source` failed last."""

    def wait(self, now: int) -> int:
        """How long to wait before another attempt may begin; 0: now, in half-open as the probe."""
        self._refresh(now)
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

    def renew(self, now: int, holder: str, lease: int) -> None:
        """The probe is still at work."""
        if self.probe == holder != "":
            self.probe_until = now + lease

    def record(
        self,
        policy: BreakerPolicy,
        now: int,
        holder: str,
        verdict: Verdict,
        source: str = "",
        workers: int = 1,
    ) -> None:
        """An attempt ended at the worker `source`, one of `workers`.

        With several workers one of them alone cannot open the breaker, which is the part of its own one,
        unless it has the probe.
        """
        self._refresh(now)
        probing = self.state is BreakerState.HALF_OPEN and self.probe == holder != ""
        if verdict == "ignored" and probing:
            self.probe = ""
        if verdict == "ignored" or (verdict == "collateral" and not probing):
            return
        if verdict == "success":
            self.successes += 1
        elif verdict != "collateral":
            self.failures += 1
        if self.state is BreakerState.CLOSED:
            self._count(policy, now, verdict == "success", source)
            if verdict != "success" and self._trips(policy, now, workers):
                if now - self.changed >= cooldown(policy, self.streak):
                    self.streak = 0
                self._open(policy, now)
        elif probing and verdict == "success":
            self._close(now)
        elif probing or (
            self.state is BreakerState.HALF_OPEN and verdict == "lost" and workers < 2
        ):
            self._open(policy, now)

    def reset(self, now: int) -> None:
        """Close it by hand; the statistics stay."""
        self._close(now)
        self.streak = 0

    def status(self, now: int) -> BreakerStatus:
        """What to show. Changes nothing."""
        seen = replace(self)
        wait = seen.wait(now)
        until = seen.until if seen.state is not BreakerState.CLOSED else 0
        return BreakerStatus(
            seen.state,
            seen.consecutive,
            seen.successes,
            seen.failures,
            seen.opened,
            seen.changed,
            until,
            wait,
        )

    @classmethod
    def parse(cls, fields: Mapping[bytes, bytes]) -> Self:
        """A model's breaker from its hash in Redis."""
        texts = {name.decode(): value.decode() for name, value in fields.items()}
        slots = (
            tuple(map(int, slot.split())) for slot in texts.get("window", "").split(",") if slot
        )
        numbers = {
            name: int(texts.get(name, 0))
            for name in (
                *("consecutive", "successes", "failures", "opened", "streak", "changed"),
                *("until", "probe_until", "source_at", "other_at"),
            )
        }
        return cls(
            state=BreakerState(texts.get("state", "closed")),
            window=tuple(sorted((slot[0], slot[1], slot[2]) for slot in slots)),
            probe=texts.get("probe", ""),
            source=texts.get("source", ""),
            **numbers,
        )

    def _refresh(self, now: int) -> None:
        if self.state is BreakerState.OPEN and now >= self.until:
            self.state, self.changed, self.probe = BreakerState.HALF_OPEN, self.until, ""

    def _count(self, policy: BreakerPolicy, now: int, ok: bool, source: str) -> None:
        slot = now // (policy.window // SLOTS)
        kept = {n: (good, bad) for n, good, bad in self.window if slot - SLOTS < n <= slot}
        good, bad = kept.get(slot, (0, 0))
        kept[slot] = (good + ok, bad + (not ok))
        self.window = tuple((n, *counts) for n, counts in sorted(kept.items()))
        self.consecutive = 0 if ok else self.consecutive + 1
        if not ok:
            if self.source not in ("", source):
                self.other_at = self.source_at
            self.source, self.source_at = source, now

    def _trips(self, policy: BreakerPolicy, now: int, workers: int) -> bool:
        if workers > 1 and not (self.other_at > 0 and now - self.other_at <= policy.window):
            return False
        good = sum(slot[1] for slot in self.window)
        bad = sum(slot[2] for slot in self.window)
        many = good + bad >= policy.volume and bad >= policy.rate * (good + bad)
        return self.consecutive >= policy.threshold or many

    def _open(self, policy: BreakerPolicy, now: int) -> None:
        self.streak += 1
        self.opened += 1
        self.state, self.changed, self.probe = BreakerState.OPEN, now, ""
        self.until = now + cooldown(policy, self.streak)

    def _close(self, now: int) -> None:
        self.state, self.changed, self.probe = BreakerState.CLOSED, now, ""
        self.consecutive, self.window = 0, ()
        self.source, self.source_at, self.other_at = "", 0, 0
