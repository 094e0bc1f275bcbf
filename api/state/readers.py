"""Jobs that live only while somebody reads them: those made by `POST /v1/infer/stream`.

Who reads such a job, or has read it, stands in one hash in Redis (`readers:ID`, reader -> here or left),
so a client may come back to any process. A reader that leaves waits out the grace period; if nothing has
changed by then and nobody is here, the job is canceled. When the process itself dies, nobody says
that the reader left and the job runs on: that errs on the side of losing no work.
"""

import logging
import secrets
import threading
import time

from redis.exceptions import RedisError

from shared.domain.errors import JobsError, StoreUnavailable
from shared.domain.schemas import DEFAULT_EXPIRES_IN
from shared.redis.connection import unavailable
from shared.store.jobs import JobStore

HERE, LEFT = b"1", b"0"
RETRY_SECONDS = 1.0
RETRIES = 60

_log = logging.getLogger(__name__)


class Readers:
    """`grace` is how many seconds a reader may be away."""

    def __init__(self, store: JobStore, grace: float) -> None:
        self._store = store
        self._grace = grace

    def track_reader(self, job_id: str, lifetime: float) -> "ReaderPresence":
        """Make a job depend on its readers, the first of whom is the caller. Raises `StoreUnavailable`."""
        presence = ReaderPresence(self, job_id, secrets.token_hex(8))
        self._mark(job_id, presence.reader, HERE, int(lifetime) + self._store.retention)
        return presence

    def join(self, job_id: str) -> "ReaderPresence | None":
        """Be one more reader of a job, None when it does not depend on any. Raises `StoreUnavailable`."""
        key = self._store.keys("readers", job_id)
        try:
            if not self._store.redis.exists(key):
                return None
        except RedisError as error:
            raise unavailable(error) from error
        presence = ReaderPresence(self, job_id, secrets.token_hex(8))
        self._mark(job_id, presence.reader, HERE, DEFAULT_EXPIRES_IN + self._store.retention)
        return presence

    def forget(self, job_id: str) -> None:
        """The job was not made after all: nobody reads it."""
        try:
            self._store.redis.delete(self._store.keys("readers", job_id))
        except RedisError:
            _log.debug("the readers of %s are left to their TTL", job_id)

    def left(self, presence: "ReaderPresence", *, watch: bool) -> None:
        """A reader is gone. `watch`: cancel the job unless somebody reads on within the grace period."""
        threading.Thread(
            target=self._farewell, args=(presence, watch), name="farewell", daemon=True
        ).start()

    def _farewell(self, presence: "ReaderPresence", watch: bool) -> None:
        for _ in range(RETRIES):
            try:
                seen = self._mark(presence.job_id, presence.reader, LEFT)
                if watch:
                    time.sleep(self._grace)
                    # Any coming or going since then has, or will have, a farewell of its own.
                    if HERE not in seen.values() and self._look(presence.job_id) == seen:
                        self._store.cancel(presence.job_id)
                        _log.info("canceled %s: its reader did not come back", presence.job_id)
                return
            except StoreUnavailable:
                time.sleep(RETRY_SECONDS)
            except JobsError:
                # It has ended or is forgotten: nothing is left to cancel.
                return

    def _mark(
        self, job_id: str, reader: str, mark: bytes, lifetime: int = DEFAULT_EXPIRES_IN
    ) -> dict[bytes, bytes]:
        key = self._store.keys("readers", job_id)
        try:
            pipe = self._store.redis.pipeline(transaction=True)
            pipe.hset(key, reader, mark)
            pipe.expire(key, lifetime)
            pipe.hgetall(key)
            readers: dict[bytes, bytes] = pipe.execute()[2]
        except RedisError as error:
            raise unavailable(error) from error
        return readers

    def _look(self, job_id: str) -> dict[bytes, bytes]:
        try:
            readers: dict[bytes, bytes] = self._store.redis.hgetall(  # type: ignore[assignment]
                self._store.keys("readers", job_id)
            )
        except RedisError as error:
            raise unavailable(error) from error
        return readers


class ReaderPresence:
    """One reader of one job that depends on its readers."""

    def __init__(self, readers: Readers, job_id: str, reader: str) -> None:
        self.job_id = job_id
        self.reader = reader
        self._readers = readers

    def leave(self, *, watch: bool) -> None:
        """Stop reading before the job's end; see `Readers.left`."""
        self._readers.left(self, watch=watch)
