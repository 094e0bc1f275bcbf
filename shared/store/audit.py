"""The audit log in Redis: every change that an administrator makes goes through `AuditLog.record`, and so
does every sign-in at the console.

A change is written down before it is made, so that whatever dies, none is without its entry; how it went is
added afterwards.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import cast

import msgspec

from shared.domain.audit import (
    BEGUN,
    CHANGE_ID,
    DONE,
    KEPT_SECONDS,
    Action,
    Change,
    Kind,
    first_id_at,
    kind_of,
)
from shared.domain.errors import InvalidRequest, JobsError
from shared.redis.connection import reachable
from shared.store.jobs import JobStore

KEPT = {
    Kind.ACCESS: (5_000, 20_000),
    Kind.SIGN_IN: (5_000, 20_000),
    Kind.REFUSED: (2_000, 2_000),
    Kind.WORK: (10_000, 50_000),
}
"""How many of a kind are kept of each tenant, and of all: the newest."""
SCAN, CHUNK = 2000, 200
"""Changes that a listing looks at for one page, and in one call."""
INTERRUPTED = "interrupted"
"""The outcome of a change that failed with no error of ours."""

_log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(Change).decode


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which changes are asked for; None asks for any. They began from `since` on and before `until`, in ms
    since 1970.
    """

    action: Action | None = None
    by: str | None = None
    target: str | None = None
    since: int | None = None
    until: int | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(Kind) if self.action is None else (kind_of(self.action),)

    def fits(self, change: Change) -> bool:
        """Whether a change of these times is asked for."""
        return (
            self.action in (None, change.action)
            and (self.by is None or self.by in (change.key_id, change.user))
            and (self.target is None or self.target in change.targets)
        )

    def span(self, cursor: str | None) -> tuple[str, str]:
        """The bounds of the ids that a page after `cursor` may hold, as Redis takes them, the upper first."""
        uppers = [] if self.until is None else [first_id_at(self.until)]
        uppers += [] if cursor is None else [cursor]
        lower = "-" if self.since is None else f"[{first_id_at(self.since)}"
        return f"({min(uppers)}" if uppers else "+", lower


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

    def note(self, change: Change) -> None:
        """Write down what has happened already."""
        self._add(change)

    def listing(
        self,
        tenant: str | None,
        wanted: Wanted = Wanted(),
        *,
        limit: int,
        cursor: str | None = None,
    ) -> tuple[list[Change], str | None]:
        """Changes of a tenant or, with None, of all, newest first, and the next page's cursor.

        A page may hold fewer than `limit` and still have a next one. Raises `InvalidRequest` for a cursor
        that no listing gave.
        """
        if cursor is not None and not CHANGE_ID.fullmatch(cursor):
            raise InvalidRequest(
                "The cursor is not one that a listing gave.", code="invalid_cursor"
            )
        keys = self._store.keys
        indexes = [
            keys("audit", kind) if tenant is None else keys("auditof", kind, tenant)
            for kind in wanted.kinds
        ]
        found: list[Change] = []
        for _ in range(SCAN // CHUNK):
            ids, rows = self._page(indexes, wanted.span(cursor))
            for change_id, row in zip(ids, rows, strict=True):
                cursor = change_id
                if row is not None and wanted.fits(change := _decode(row)):
                    found.append(change)
                    if len(found) == limit:
                        return found, cursor
            if len(ids) < CHUNK:
                return found, None
        return found, cursor

    def _page(
        self, indexes: list[str], span: tuple[str, str]
    ) -> tuple[list[str], list[bytes | None]]:
        """The newest `CHUNK` ids of all these indexes within the span, with their entries."""
        redis = self._store.redis
        with reachable():
            pipe = redis.pipeline(transaction=False)
            for index in indexes:
                pipe.zrevrangebylex(index, *span, start=0, num=CHUNK)
            newest = sorted(chain.from_iterable(pipe.execute()), reverse=True)[:CHUNK]
            ids = [name.decode() for name in newest]
            names = [self._store.keys("auditentry", one) for one in ids]
            return ids, cast(list[bytes | None], redis.mget(names)) if names else []

    def _add(self, change: Change) -> None:
        oldest, kind = first_id_at(int((time.time() - KEPT_SECONDS) * 1000)), kind_of(change.action)
        self._store.call(
            "audit_add",
            *(change.id, change.tenant, msgspec.json.encode(change), KEPT_SECONDS),
            *(*KEPT[kind], oldest, kind),
        )

    def _end(self, change: Change) -> None:
        """Add how it went. Where that fails the entry stays `BEGUN`: the change itself has its own answer."""
        try:
            self._store.call("audit_end", change.id, msgspec.json.encode(change))
        except JobsError as error:
            _log.warning("the outcome of %s is not written down: %s", change.id, error.detail)
