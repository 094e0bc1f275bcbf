"""Keeps apart attempts under suspicion: an earlier one died with its engine host or its worker.

One of them may be what kills the host. They run apart from clean jobs, so that those are never charged
for it, and in ever smaller company: a quarter of the engine after one crash, alone after two. So
whoever shares a host's death with a poison job is charged at most two crashes of three.
"""

from collections import deque
from collections.abc import Sequence

from workers.execution.attempt import Attempt

ALONE_AFTER = 2
SHARE = 4


class Quarantine:
    """Who waits and who runs. Not safe by itself: the lock of `Attempts` guards it."""

    def __init__(self) -> None:
        self._waiting: deque[Attempt] = deque()
        self._running: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting or self._running)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    @property
    def waiting(self) -> Sequence[Attempt]:
        return tuple(self._waiting)

    def put(self, attempt: Attempt) -> None:
        self._waiting.append(attempt)

    def remove(self, ticket: str) -> bool:
        """Forget an attempt. Returns whether the engine has never had it."""
        self._running.discard(ticket)
        for attempt in self._waiting:
            if attempt.ticket == ticket:
                self._waiting.remove(attempt)
                return True
        return False

    def next_group(self, capacity: int) -> list[Attempt]:
        """Who may run now, given that no clean job does; nobody while a group runs."""
        if self._running or not self._waiting:
            return []
        group = [self._waiting.popleft()]
        if group[0].claim.crashes < ALONE_AFTER:
            most = max(1, capacity // SHARE)
            while self._waiting and len(group) < most:
                if self._waiting[0].claim.crashes >= ALONE_AFTER:
                    break
                group.append(self._waiting.popleft())
        self._running = {attempt.ticket for attempt in group}
        return group
