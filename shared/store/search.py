"""Looking through a tenant's jobs for those that fit, piece by piece: no look holds Redis, or takes long.

There is no index by metadata, nor by any other thing that a client may ask for: it would cost every job that
is made, for a question that few ask. A look says how far it came, and the next one goes on from there.
"""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import msgspec

from shared.domain.errors import InvalidRequest
from shared.domain.records import JOB_ID, Record
from shared.domain.states import JobState
from shared.redis.connection import reachable
from shared.store.jobs import JobStore

PIECE = 250
"""Jobs that one script call looks at: less than a millisecond of Redis."""
MOST = 20_000
"""Jobs that one look goes through at the most."""
SECONDS, LEAST = 0.1, 2_000
"""After which a look ends, and how many jobs it goes through even so: a busy machine gets on as well."""
ROW = (
    *("model", "state", "tenant", "created", "finished", "usage", "error", "cached", "metadata"),
    "output_of",
)
"""Fields of a record that a list shows or asks for."""
MOST_RUNNING = 2_000
"""Running jobs of one model that are looked at."""


class Wanted(NamedTuple):
    """What jobs are looked for; what is empty fits all. Times are ms since 1970.

    `text` is part of the id; `name` and `value` are a pair of the metadata, an empty `value` any; `within` is
    part of a name or of a value of it.
    """

    state: JobState | None = None
    model: str = ""
    text: str = ""
    name: str = ""
    value: str = ""
    within: str = ""
    after: int | None = None

    @property
    def anything(self) -> bool:
        return self == Wanted()


class Look(NamedTuple):
    """What a look found, newest first: after how many jobs, and where the next one goes on; None: no more."""

    records: list[Record]
    cursor: str | None
    looked: int


def look(
    store: JobStore, tenant: str, wanted: Wanted, *, limit: int, cursor: str | None = None
) -> Look:
    """Up to `limit` of a tenant's jobs that fit, older than the job `cursor`.

    Raises `InvalidRequest` for a cursor that is no id of a job, `StoreUnavailable`.
    """
    if cursor is not None and not JOB_ID.fullmatch(cursor):
        raise InvalidRequest("The cursor is not one that a listing gave.", code="invalid_cursor")
    if wanted.state is JobState.RUNNING:
        return _running(store, tenant, wanted, limit, cursor)
    bottom = "-" if wanted.after is None else f"[{id_at(wanted.after)}"
    fits = (wanted.state or "", *wanted[1:6])
    found: list[str] = []
    looked, ends = 0, time.monotonic() + SECONDS
    while True:
        top = f"({cursor}" if cursor is not None else "+"
        seen, last, over, *ids = store.call(
            "look", tenant, top, bottom, PIECE, limit - len(found), *fits
        )
        found += [one.decode() for one in ids]
        looked += int(seen)
        cursor = last.decode() or cursor
        if over:
            return Look(_rows(store, found), None, looked)
        if len(found) >= limit or looked >= MOST or (looked >= LEAST and time.monotonic() >= ends):
            return Look(_rows(store, found), cursor, looked)


def id_at(epoch_ms: int) -> str:
    """The least id that a job could have which is made at this time: ids begin with theirs."""
    return f"job_{epoch_ms:012x}{'0' * 20}"


def _rows(store: JobStore, ids: Sequence[str]) -> list[Record]:
    """What a list shows of these jobs, of those that there still are; outputs, which may be large, stay."""
    with reachable():
        pipe = store.redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(store.keys("job", job_id), ROW)
        found = [
            {"id": job_id, **{name: value.decode() for name, value in _pairs(values)}}
            for job_id, values in zip(ids, pipe.execute(), strict=True)
        ]
        lent = [fields for fields in found if "output_of" in fields and "usage" not in fields]
        for fields in lent:
            pipe.hget(store.keys("output", fields["output_of"].split(" ")[0]), "usage")
        for fields, usage in zip(lent, pipe.execute(), strict=True):
            fields["usage"] = (usage or b"").decode()
    return [Record(fields) for fields in found if "state" in fields]


def _pairs(values: Sequence[bytes | None]) -> Iterator[tuple[str, bytes]]:
    return ((name, value) for name, value in zip(ROW, values, strict=True) if value is not None)


def _running(store: JobStore, tenant: str, wanted: Wanted, limit: int, cursor: str | None) -> Look:
    """Search the running jobs: they are few among all, and their leases name them."""
    models = [wanted.model] if wanted.model else store.models()
    with reachable():
        pipe = store.redis.pipeline(transaction=False)
        for model in models:
            pipe.zrange(store.keys("leases", model), 0, MOST_RUNNING - 1)
        leased = cast(list[list[bytes]], pipe.execute()) if models else []
    ids = sorted((one.decode() for ids in leased for one in ids), reverse=True)
    bottom = id_at(wanted.after) if wanted.after is not None else ""
    older = [one for one in ids if bottom <= one and (cursor is None or one < cursor)]
    found: list[Record] = []
    for begin in range(0, len(older), PIECE):
        for record in _rows(store, older[begin : begin + PIECE]):
            if record.fields["tenant"] == tenant and _fits(record, wanted):
                found.append(record)
                if len(found) == limit:
                    return Look(found, record.id, len(older))
    return Look(found, None, len(older))


def _fits(record: Record, wanted: Wanted) -> bool:
    """Whether a running job of the wanted model fits in all else; look.lua tells it of other jobs."""
    if record.state is not wanted.state or wanted.text not in record.id:
        return False
    pairs: dict[str, str] = msgspec.json.decode(record.fields.get("metadata") or b"{}")
    if wanted.name:
        named = pairs.get(wanted.name)
        return named is not None and wanted.value in ("", named)
    return not wanted.within or any(
        wanted.within in part for pair in pairs.items() for part in pair
    )
