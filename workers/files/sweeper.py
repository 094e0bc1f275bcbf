"""Removes files whose time is over, and content that nobody knows: once a minute, in every rescue worker.

Several may do so at once: each step may be repeated.
"""

import logging
import time
from collections.abc import Callable

from shared.domain.errors import JobsError, StoreUnavailable
from shared.domain.files import FILE_ID, place_of
from shared.files import Storage
from shared.store.batches import Batches
from shared.store.files import Files
from workers.periodic import Periodic

INTERVAL_SECONDS = 60.0
AT_ONCE = 200
UNKNOWN_SECONDS = 24 * 3600.0
"""After which content without a record goes: it is longer than any upload takes."""
SEARCH_SECONDS = 3600.0
"""Between two searches for such content, each of which lists the storage."""

_log = logging.getLogger(__name__)


class FileSweeper(Periodic):
    """A timer. `clock` is in seconds, and never goes back."""

    def __init__(
        self,
        files: Files,
        batches: Batches,
        storage: Storage,
        interval: float = INTERVAL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("file sweeper", interval, self.sweep, _log)
        self._files = files
        self._batches = batches
        self._storage = storage
        self._clock = clock
        self._searched: float | None = None

    def sweep(self) -> None:
        """One round. Raises `StoreUnavailable`."""
        try:
            self._remove_expired()
            now = self._clock()
            if self._searched is None or now - self._searched >= SEARCH_SECONDS:
                self._searched = now
                self._remove_unknown()
        except StoreUnavailable:
            raise
        except JobsError as error:
            _log.warning("files wait to be removed: %s", error)

    def _remove_expired(self) -> None:
        while due := self._files.expired(AT_ONCE):
            gone = [self._remove(*one) for one in due]
            if len(due) < AT_ONCE or not any(gone):
                return

    def _remove(self, file_id: str, tenant: str, size: int) -> bool:
        if not self._files.forget(file_id, tenant, size):
            return False
        self._storage.delete(place_of(file_id))
        return True

    def _remove_unknown(self) -> None:
        self._storage.clear_unfinished(UNKNOWN_SECONDS)
        before = time.time() - UNKNOWN_SECONDS
        for found in self._storage.listing("files"):
            file_id = found.name.rpartition("/")[2]
            old = found.written < before and FILE_ID.fullmatch(file_id)
            if old and not self._files.known(file_id):
                self._storage.delete(found.name)
                _log.info("removed %s, which nobody knows", file_id)
        for found in self._storage.listing("parts"):
            if found.written < before and not self._batches.is_open(found.name.split("/")[1]):
                self._storage.delete(found.name)
