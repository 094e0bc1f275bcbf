"""Rescues the jobs of dead workers: once a second, under a lock, one cheap script call a model."""

import logging
import secrets
from collections.abc import Callable

from redis.exceptions import ResponseError

from shared.domain.write_results import Rescued
from shared.hooks import Observers
from shared.store.jobs import JobStore
from workers.periodic import Periodic

INTERVAL_SECONDS = 1.0
LIMIT = 200

_log = logging.getLogger(__name__)


class Rescuer(Periodic):
    """A timer that rescues every model. Several may run; the one with the lock works."""

    def __init__(
        self,
        store: JobStore,
        ring: Callable[[str], object],
        interval: float = INTERVAL_SECONDS,
        observers: Observers | None = None,
    ) -> None:
        super().__init__("rescuer", interval, self.tick, _log)
        self._store = store
        self._observers = observers or Observers()
        self._ring = ring
        self._owner = secrets.token_hex(8)

    def tick(self) -> dict[str, Rescued]:
        """One round over all models. Empty when another rescuer has the lock.

        Raises `StoreUnavailable`.
        """
        if not self._store.lock_rescue(self._owner, max(5.0, 3 * self._interval)):
            return {}
        found = {}
        for model in self._store.models():
            try:
                rescued = self._store.rescue(model, LIMIT)
            except ResponseError as error:
                # Other models' jobs must not wait for it. Which ones it was at is tried again in a minute.
                _log.error("%s: some jobs cannot be rescued: %s", model, error)
                continue
            found[model] = rescued
            self._observers.emit("jobs_rescued", model, rescued)
            if rescued.ring:
                self._ring(model)
            if rescued.requeued or rescued.failed:
                _log.warning(
                    "%s: %d jobs of dead workers requeued, %d failed",
                    model,
                    rescued.requeued,
                    rescued.failed,
                )
        return found
