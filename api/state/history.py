"""What all models did in the last hour, minute by minute, for everybody who looks."""

import threading
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from shared.redis.connection import unavailable
from shared.store.jobs import JobStore
from shared.store.stats import HISTORY_MINUTES, MinuteStats, read_minutes


class History:
    """Keeps the minutes that are over, which change no more, so that only the present one is read anew.

    Safe to share between threads.
    """

    def __init__(self, store: JobStore, models: Sequence[str]) -> None:
        self._store = store
        self._models = models
        self._lock = threading.Lock()
        self._over: dict[int, MinuteStats] = {}
        """By minute; those that a look no longer asks for are dropped."""

    def read(self) -> list[MinuteStats]:
        """The last `HISTORY_MINUTES` and the present one, oldest first. Raises `StoreUnavailable`."""
        redis, keys = self._store.redis, self._store.keys
        try:
            moment: Any = redis.time()
            present = moment[0] // 60
            wanted = range(present - HISTORY_MINUTES, present + 1)
            with self._lock:
                known = {minute: self._over[minute] for minute in wanted if minute in self._over}
            missing = [minute for minute in wanted if minute not in known]
            read = read_minutes(redis, keys, self._models, missing)
        except RedisError as error:
            raise unavailable(error) from error
        found = known | {row.minute: row for row in read}
        # The last one that is over may still get what a script was counting when it ended.
        kept = {minute: row for minute, row in found.items() if minute < present - 1}
        with self._lock:
            self._over = kept
        return [found[minute] for minute in wanted]
