"""Results in the memory of one process: the least recently used goes first, each has its own time to live."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import TLRUCache

from shared.domain.sharing import Result


@dataclass(frozen=True, slots=True)
class _Entry:
    result: Result
    ttl: float


class ResultMemory:
    """At most `entries` results (1 or more) of `size` bytes together. Safe to share between threads."""

    def __init__(
        self, entries: int, size: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # An entry counts for its bytes, and for no fewer than let `entries` of them fill the cache.
        self._least = size / entries
        self._lock = threading.Lock()
        self._kept: TLRUCache = TLRUCache(
            maxsize=size,
            ttu=lambda _, entry, now: now + entry.ttl,
            timer=clock,
            getsizeof=self._size,
        )

    def get(self, digest: str) -> Result | None:
        with self._lock:
            entry = self._kept.get(digest)
        return entry.result if entry is not None else None

    def put(self, digest: str, result: Result, ttl: float) -> None:
        """Keep a result for `ttl` seconds; one that is larger than everything here may be is not kept."""
        entry = _Entry(result, ttl)
        if self._size(entry) <= self._kept.maxsize:
            with self._lock:
                self._kept[digest] = entry

    def forget(self, digest: str) -> None:
        with self._lock:
            self._kept.pop(digest, None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._kept)

    def _size(self, entry: _Entry) -> float:
        return max(self._least, len(entry.result.output) + len(entry.result.usage))
