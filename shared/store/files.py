"""Which files tenants have: names, sizes, expiries, and their room. The content lies in a storage.

A file is written down once its content is stored, and forgotten before its content is removed or after: what
lies there and is known to nobody is removed by a sweep.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from shared.domain.errors import InvalidRequest, JobsError, TryLater
from shared.domain.files import FILE_ID, File
from shared.redis.connection import reachable
from shared.store.jobs import JobStore

KEPT_ON = 2 * 24 * 3600
"""Seconds for which a record outlives its file: a sweep must find it, and a batch may still read the file."""
IN_USE_SECONDS = 3600
"""After which a file that expired while a batch read it is looked at again."""
PAGE = 1000
SCAN = 10_000
"""Files that a listing of one purpose looks at."""


class FileNotFound(JobsError):
    code = "file_not_found"

    def __init__(self, file_id: str) -> None:
        super().__init__(f"There is no file {file_id[:64]!r}. It may have been deleted or expired.")


class FileInUse(JobsError):
    code = "file_in_use"


class Room(NamedTuple):
    """What files take, or may take: bytes and number of a tenant's, bytes of all."""

    bytes: int
    files: int
    total: int


class Files:
    """Every method raises `StoreUnavailable` when Redis does not answer. Safe to share between threads."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def require_room(self, tenant: str, size: int, room: Room) -> None:
        """Raises `TryLater` where a file of so many bytes has no room now, before it is sent."""
        own, count, total = self.held(tenant)
        if own + size > room.bytes:
            raise _no_room(b"bytes", own, room)
        if count >= room.files:
            raise _no_room(b"files", count, room)
        if total + size > room.total:
            raise _no_room(b"total", total, room)

    def held(self, tenant: str) -> Room:
        """What the files of a tenant take now, and those of all."""
        names = [f"bytes {tenant}", f"files {tenant}", "total"]
        with reachable():
            held = cast(Any, self._store.redis.hmget(self._store.keys("filesizes"), names))
        return Room(*(int(value or 0) for value in held))

    def create(self, file: File, room: Room) -> None:
        """Write a file down; twice is once. Raises `TryLater` where it has no room."""
        seconds = file.expires - file.created
        # fmt: off
        outcome, *held = self._store.call(
            "file_create", file.id, file.tenant, file.bytes, seconds, seconds + KEPT_ON,
            room.bytes, room.files, room.total,
            "tenant", file.tenant, "purpose", file.purpose, "filename", file.filename,
            "bytes", file.bytes, "created", file.created, "expires", file.expires,
        )
        # fmt: on
        if outcome != b"created":
            raise _no_room(outcome, int(held[0]), room)

    def get(self, file_id: str, tenant: str) -> File:
        """A file of this tenant. Raises `FileNotFound`, also for a file of somebody else."""
        found = self._read([file_id]) if FILE_ID.fullmatch(file_id) else []
        if not found or found[0].tenant != tenant:
            raise FileNotFound(file_id)
        return found[0]

    def listing(
        self,
        tenant: str,
        *,
        purpose: str | None = None,
        limit: int = PAGE,
        after: str | None = None,
        oldest_first: bool = False,
    ) -> tuple[list[File], bool]:
        """A tenant's files, newest first, and whether there are more. Raises `InvalidRequest`."""
        if after is not None and not FILE_ID.fullmatch(after):
            raise InvalidRequest("'after' must be the id of a file.", code="invalid_cursor")
        found: list[File] = []
        index, scanned = self._store.keys("files", tenant), 0
        while scanned < SCAN:
            edge = f"({after}" if after else None
            with reachable():
                page = cast(
                    list[bytes],
                    self._store.redis.zrangebylex(index, edge or "-", "+", start=0, num=100)
                    if oldest_first
                    else self._store.redis.zrevrangebylex(
                        index, edge or "+", "-", start=0, num=100
                    ),
                )
            names = [name.decode() for name in page]
            found += [
                file for file in self._read(names) if purpose is None or file.purpose == purpose
            ]
            if len(found) > limit:
                return found[:limit], True
            if len(names) < 100:
                return found, False
            after, scanned = names[-1], scanned + len(names)
        return found, True

    def delete(self, file: File) -> None:
        """Forget a file. Raises `FileInUse` while a batch reads it."""
        if self._forget(file.id, file.tenant, file.bytes) == b"used":
            raise FileInUse("A batch reads this file. Cancel it, or wait for its end.")

    def expired(self, limit: int) -> list[tuple[str, str, int]]:
        """Files whose time is over: id, tenant and bytes of each, for `forget`."""
        with reachable():
            now = self._now_ms()
            due = cast(
                list[bytes],
                self._store.redis.zrangebyscore(
                    self._store.keys("expiringfiles"), "-inf", now, start=0, num=limit
                ),
            )
        parts = (member.decode().split(" ") for member in due)
        return [(file_id, tenant, int(size)) for file_id, tenant, size in parts]

    def forget(self, file_id: str, tenant: str, size: int) -> bool:
        """Forget a file that has expired. False where a batch reads it: it is due again later."""
        if self._forget(file_id, tenant, size) != b"used":
            return True
        with reachable():
            again = self._now_ms() + IN_USE_SECONDS * 1000
            member = f"{file_id} {tenant} {size}"
            self._store.redis.zadd(self._store.keys("expiringfiles"), {member: again}, xx=True)
        return False

    def known(self, file_id: str) -> bool:
        """Whether there is a record of a file, be it expired."""
        with reachable():
            return bool(self._store.redis.exists(self._store.keys("file", file_id)))

    def _now_ms(self) -> int:
        seconds, micros = cast(Any, self._store.redis.time())
        return int(seconds) * 1000 + int(micros) // 1000

    def _forget(self, file_id: str, tenant: str, size: int) -> bytes:
        outcome: bytes = self._store.call("file_delete", file_id, tenant, size)
        return outcome

    def _read(self, ids: Sequence[str]) -> list[File]:
        with reachable():
            pipe = self._store.redis.pipeline(transaction=False)
            pipe.time()
            for file_id in ids:
                pipe.hgetall(self._store.keys("file", file_id))
            moment, *rows = pipe.execute()
        found = (_file(one, row) for one, row in zip(ids, rows, strict=True) if row)
        return [file for file in found if file.expires > moment[0]]


def _file(file_id: str, row: dict[bytes, bytes]) -> File:
    fields = {name.decode(): value.decode() for name, value in row.items()}
    return File(
        id=file_id,
        tenant=fields["tenant"],
        purpose=fields["purpose"],
        filename=fields["filename"],
        bytes=int(fields["bytes"]),
        created=int(fields["created"]),
        expires=int(fields["expires"]),
    )


def _no_room(what: bytes, held: int, room: Room) -> TryLater:
    if what == b"total":
        return TryLater(
            f"The files of all tenants take {held:,} bytes, and {room.total:,} may be taken.",
            60,
            code="file_storage_full",
        )
    if what == b"files":
        detail = f"You have {held:,} files, and no more may be."
    else:
        detail = f"Your files take {held:,} bytes, and {room.bytes:,} may be taken."
    return TryLater(
        f"{detail} Delete files that you no longer need, or let them expire sooner.",
        60,
        code="file_quota_exceeded",
    )
