"""The audit log in Redis: every change that an administrator makes goes through `AuditLog.record`.

A change is written down before it is made, so that whatever dies, none is without its entry; how it went is
added afterwards.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import msgspec

from shared.domain.audit import BEGUN, CHANGE_ID, DONE, KEPT_SECONDS, Change
from shared.domain.errors import InvalidRequest, JobsError
from shared.redis.connection import reachable
from shared.store.jobs import JobStore

MOST_OF_TENANT, MOST = 10_000, 50_000
"""Changes that are kept of a tenant's administrators, and of all: the newest."""
SCAN, CHUNK = 2000, 200
"""Changes that a listing looks at for one page, and in one call."""
INTERRUPTED = "interrupted"
"""The outcome of a change that failed with no error of ours."""

_log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(Change).decode


class AuditLog:
    """Every method raises `StoreUnavailable` when Redis does not answer."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    @contextmanager
    def record(self, change: Change) -> Iterator[Change]:
        """While a change is made. Without an entry none is: this raises before it begins.

        What raises an error is an entry as well, with the code of the error as its outcome.
        """
        self._add(change)
        try:
            yield change
        except BaseException as error:
            change.outcome = error.code if isinstance(error, JobsError) else INTERRUPTED
            raise
        finally:
            change.outcome = DONE if change.outcome == BEGUN else change.outcome
            self._end(change)

    def listing(
        self,
        tenant: str | None,
        *,
        fits: Callable[[Change], bool] = lambda _: True,
        limit: int,
        cursor: str | None = None,
    ) -> tuple[list[Change], str | None]:
        """Changes by a tenant's administrators or, with None, by all, newest first; the next page's cursor.

        A page may hold fewer than `limit` and still have a next one. Raises `InvalidRequest` for a cursor
        that no listing gave.
        """
        if cursor is not None and not CHANGE_ID.fullmatch(cursor):
            raise InvalidRequest(
                "The cursor is not one that a listing gave.", code="invalid_cursor"
            )
        keys = self._store.keys
        index = keys("audit") if tenant is None else keys("auditof", tenant)
        found: list[Change] = []
        for _ in range(SCAN // CHUNK):
            ids, rows = self._page(index, cursor)
            for change_id, row in zip(ids, rows, strict=True):
                cursor = change_id
                if row is not None and fits(change := _decode(row)):
                    found.append(change)
                    if len(found) == limit:
                        return found, cursor
            if len(ids) < CHUNK:
                return found, None
        return found, cursor

    def _page(self, index: str, cursor: str | None) -> tuple[list[str], list[bytes | None]]:
        redis, top = self._store.redis, f"({cursor}" if cursor else "+"
        with reachable():
            page = cast(list[bytes], redis.zrevrangebylex(index, top, "-", start=0, num=CHUNK))
            ids = [name.decode() for name in page]
            names = [self._store.keys("auditentry", one) for one in ids]
            return ids, cast(list[bytes | None], redis.mget(names)) if names else []

    def _add(self, change: Change) -> None:
        oldest = f"audit_{max(0, int((time.time() - KEPT_SECONDS) * 1000)):012x}"
        self._store.call(
            "audit_add",
            *(change.id, change.tenant, msgspec.json.encode(change), KEPT_SECONDS),
            *(MOST_OF_TENANT, MOST, oldest),
        )

    def _end(self, change: Change) -> None:
        """Add how it went. Where that fails the entry stays `BEGUN`: the change itself has its own answer."""
        try:
            self._store.call("audit_end", change.id, msgspec.json.encode(change))
        except JobsError as error:
            _log.warning("the outcome of %s is not written down: %s", change.id, error.detail)
