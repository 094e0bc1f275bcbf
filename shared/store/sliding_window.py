"""Sliding windows that are never exceeded: counts in slots of a sixtieth of the window.

A unit counts until its slot has left the window wholly. So in no span of the window's length is more
taken than the quota, and a unit comes free at most one slot later than an exact log would free it. A
window holds at most `SLOTS` + 1 numbers, however large the quota. The twin of this module is
shared/store/lua/rates.lua; tests/shared/store/test_sliding_window.py holds both against an exact log.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence

from shared.domain.quotas import Charge, QuotaStatus

SLOTS = 60
MOST_WINDOWS = 10_000
"""Windows that a process keeps while Redis is away; beyond them the longest unused is forgotten."""


class Window:
    """What one client took of one policy. Times are integers in milliseconds."""

    __slots__ = ("_counts", "refused", "used")

    def __init__(self) -> None:
        self._counts: deque[tuple[int, int]] = deque()
        self.used = 0
        self.refused = 0

    def advance(self, span: int, now: int) -> int:
        """Forget what has left the window. Returns the present slot.

        A clock that went back by less than a window waits for its old time; by more, it starts afresh.
        """
        slot = now * SLOTS // span
        newest = self._counts[-1][0] if self._counts else slot
        if newest > slot + SLOTS:
            self._counts.clear()
            self.used = 0
        else:
            slot = max(slot, newest)
        while self._counts and self._counts[0][0] < slot - SLOTS:
            self.used -= self._counts.popleft()[1]
        return slot

    def add(self, slot: int, cost: int) -> None:
        """Count `cost` units in the present slot."""
        before = self._counts.pop()[1] if self._counts and self._counts[-1][0] == slot else 0
        self._counts.append((slot, before + cost))
        self.used += cost

    def wait(self, span: int, now: int, surplus: int) -> int:
        """Milliseconds until `surplus` units have come free; until the first ones when that is below 1."""
        freed = 0
        for slot, count in self._counts:
            freed += count
            if freed >= surplus:
                return max(0, -(-(slot + SLOTS + 1) * span // SLOTS) - now)
        return 0


class LocalWindows:
    """The windows of one process. Safe to share between threads."""

    def __init__(self, most: int = MOST_WINDOWS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._windows: OrderedDict[tuple[str, str], Window] = OrderedDict()

    def take(
        self, client: str, charges: Sequence[Charge], now: int
    ) -> tuple[bool, list[QuotaStatus]]:
        """All charges or none: whether they fit, and how the client stands with each policy."""
        with self._lock:
            found = [(charge, self._window(client, charge.policy.name)) for charge in charges]
            slots = [window.advance(charge.policy.seconds * 1000, now) for charge, window in found]
            over = [window.used + charge.cost > charge.policy.quota for charge, window in found]
            admitted = not any(over)
            for (charge, window), slot, refused in zip(found, slots, over, strict=True):
                if admitted and charge.cost:
                    window.add(slot, charge.cost)
                window.refused += refused
            return admitted, [
                self._status(charge, window, now, refused)
                for (charge, window), refused in zip(found, over, strict=True)
            ]

    def _window(self, client: str, policy: str) -> Window:
        window = self._windows.setdefault((client, policy), Window())
        self._windows.move_to_end((client, policy))
        if len(self._windows) > self._most:
            self._windows.popitem(last=False)
        return window

    @staticmethod
    def _status(charge: Charge, window: Window, now: int, refused: bool) -> QuotaStatus:
        policy = charge.policy
        surplus = window.used + charge.cost - policy.quota if refused else 0
        wait = window.wait(policy.seconds * 1000, now, surplus)
        return QuotaStatus(policy, window.used, wait, window.refused)
