"""Rate limits of one process alone, for while Redis is away: a bucket of units for each client and policy.

A bucket holds a policy's quota and fills up at a quota a window, so that who was idle may take a quota at
once and then as much as comes back. In Redis a sliding window counts exactly
(shared/store/lua/lib/rates.lua).
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence

from shared.domain.quotas import Charge, Policy, QuotaStatus

MOST_BUCKETS = 10_000
"""Buckets that a process keeps; beyond them the longest unused is forgotten."""


class Bucket:
    """What is left to one client of one policy. Times are integers in milliseconds.

    `level` counts a unit as the policy's window in ms, so that what comes back in a millisecond is the quota.
    """

    __slots__ = ("at", "level", "refused")

    def __init__(self, policy: Policy, now: int) -> None:
        self.level = _full(policy)
        self.at = now
        self.refused = 0

    def fill(self, policy: Policy, now: int) -> None:
        """Add what has come back since the last time; a clock that went back adds nothing."""
        back = max(0, now - self.at) * policy.quota
        self.level, self.at = min(_full(policy), self.level + back), now
        if self.level == _full(policy):
            self.refused = 0

    def status(self, policy: Policy, wanted: int) -> QuotaStatus:
        """How its client stands. `wanted`: units that have no room; 0: they were taken."""
        unit = policy.seconds * 1000
        missing = wanted * unit if wanted else min(_full(policy), (self.level // unit + 1) * unit)
        used, wait = policy.quota - self.level // unit, -(-(missing - self.level) // policy.quota)
        return QuotaStatus(policy, used, wait, self.refused)


class TokenBuckets:
    """The buckets of one process. Safe to share between threads."""

    def __init__(self, most: int = MOST_BUCKETS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._buckets: OrderedDict[tuple[str, str], Bucket] = OrderedDict()

    def take(
        self, client: str, charges: Sequence[Charge], now: int
    ) -> tuple[bool, list[QuotaStatus]]:
        """All charges or none: whether they fit, and how the client stands with each policy."""
        with self._lock:
            found = [(charge, self._bucket(client, charge.policy, now)) for charge in charges]
            short = [bucket.level < _cost(charge) for charge, bucket in found]
            admitted = not any(short)
            for (charge, bucket), refused in zip(found, short, strict=True):
                bucket.refused += refused
                bucket.level -= _cost(charge) if admitted else 0
            return admitted, [
                bucket.status(charge.policy, charge.cost if refused else 0)
                for (charge, bucket), refused in zip(found, short, strict=True)
            ]

    def _bucket(self, client: str, policy: Policy, now: int) -> Bucket:
        name = (client, policy.name)
        if name not in self._buckets:
            self._buckets[name] = Bucket(policy, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(name)
        self._buckets[name].fill(policy, now)
        return self._buckets[name]


def _full(policy: Policy) -> int:
    return policy.quota * policy.seconds * 1000


def _cost(charge: Charge) -> int:
    return charge.cost * charge.policy.seconds * 1000
