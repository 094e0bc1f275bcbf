"""How many requests a client may have open at once in one process: fewer than it leaves to others.

Streams and held answers are cheap and last long, so limits of requests alone would let one client take every
connection of a process.
"""

from shared.domain.errors import RateLimited
from shared.locks import brief_lock

MOST = 8192
"""Connections of a process, where its server says nothing else."""


class Slots:
    """Safe to share between threads. `most` is how many requests a process can have open."""

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._lock = brief_lock()
        self._held: dict[str, int] = {}
        self._open = 0

    def enter(self, client: str) -> "Slot":
        """Take a slot; the caller leaves it. Raises `RateLimited` where it holds as many as are free."""
        with self._lock:
            held = self._held.get(client, 0)
            if held >= self.most - self._open:
                raise RateLimited(
                    f"{held} of your requests are open here at once. End some of your streams or long "
                    "polls first.",
                    retry_after=1,
                )
            self._held[client] = held + 1
            self._open += 1
        return Slot(self, client)

    def leave(self, client: str) -> None:
        with self._lock:
            self._open -= 1
            held = self._held.pop(client) - 1
            if held:
                self._held[client] = held


class Slot:
    """One request's place; left once, however often it is said."""

    def __init__(self, slots: Slots, client: str) -> None:
        self._slots: Slots | None = slots
        self._client = client

    def leave(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.leave(self._client)
