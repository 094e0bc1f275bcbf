"""Batches in Redis: taken in, claimed with a lease by who works on them, written down step by step.

A step is fenced: who was thought dead, and is not, writes nothing any more. Requests, results and outputs are
not kept here but in jobs and files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from shared.domain.batches import (
    BATCH_ID,
    WINDOW_SECONDS,
    Batch,
    BatchStatus,
    batch_of,
    fields_of,
)
from shared.domain.errors import InvalidRequest, JobsError, TryLater
from shared.redis.connection import reachable
from shared.store.files import FileNotFound
from shared.store.jobs import JobStore

ASKED_SECONDS = 3600
"""In which a retry of a request finds the batch that it has made."""


class BatchNotFound(JobsError):
    code = "batch_not_found"

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"There is no batch {batch_id[:64]!r}. It may have been forgotten.")


class BatchEnded(JobsError):
    code = "batch_ended"


class Live(NamedTuple):
    """A line whose job was made: its first byte in the input, how long it is, whose answer it is."""

    offset: int
    length: int
    custom_id: str

    def __str__(self) -> str:
        return f"{self.offset} {self.length} {self.custom_id}"


@dataclass(frozen=True, slots=True)
class ClaimedBatch:
    """A batch that is this caller's until its lease ends. `live`: its lines under way, by their numbers."""

    batch: Batch
    fence: int
    live: Mapping[int, Live]


@dataclass(frozen=True, slots=True)
class Step:
    """What a step changes: fields of the batch, lines whose jobs it made, lines that it gathered, the parts
    of the output that it wrote, and how many of the gathered lines succeeded and did not. `closes`: it is the
    last one.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    made: Mapping[int, Live] = field(default_factory=dict)
    gathered: Sequence[int] = ()
    parts: Sequence[str] = ()
    done: int = 0
    bad: int = 0
    closes: bool = False


class Batches:
    """Every method raises `StoreUnavailable` when Redis does not answer. Safe to share between threads.

    `retention`: seconds for which a batch that has ended is told.
    """

    def __init__(self, store: JobStore, retention: int) -> None:
        self._store = store
        self._retention = retention

    # -- the API's side

    def create(self, batch: Batch, *, most_open: int, asked: str = "", retry: bool = False) -> str:
        """Take a batch in; returns its id, or that of the one which the same request made before, where this
        is a retry of it. `asked` names the request. Raises `FileNotFound`, `TryLater`.
        """
        values = [part for pair in fields_of(batch).items() for part in pair]
        kept = 2 * WINDOW_SECONDS + self._retention
        outcome, *told = self._store.call(
            "batch_create",
            *(batch.id, batch.tenant, batch.input_file, kept, most_open),
            *(asked, ASKED_SECONDS, int(retry), *values),
        )
        if outcome == b"no_file":
            raise FileNotFound(batch.input_file)
        if outcome == b"too_many":
            raise TryLater(
                f"{int(told[0])} of your batches are open, and no more may be. Wait for the end of one.",
                60,
                code="too_many_batches",
            )
        batch_id: bytes = told[0]
        return batch_id.decode()

    def get(self, batch_id: str, tenant: str) -> Batch:
        """A batch of this tenant. Raises `BatchNotFound`, also for a batch of somebody else."""
        found = self._read([batch_id]) if BATCH_ID.fullmatch(batch_id) else []
        if not found or found[0].tenant != tenant:
            raise BatchNotFound(batch_id)
        return found[0]

    def listing(
        self, tenant: str, *, limit: int, after: str | None = None
    ) -> tuple[list[Batch], bool]:
        """A tenant's batches, newest first, and whether there are more. Raises `InvalidRequest`."""
        if after is not None and not BATCH_ID.fullmatch(after):
            raise InvalidRequest("'after' must be the id of a batch.", code="invalid_cursor")
        index, found = self._store.keys("batches", tenant), list[Batch]()
        while True:
            with reachable():
                names = cast(
                    list[bytes],
                    self._store.redis.zrevrangebylex(
                        index, f"({after}" if after else "+", "-", start=0, num=limit + 1
                    ),
                )
            ids = [name.decode() for name in names]
            here = self._read(ids)
            found += here
            if gone := set(ids) - {batch.id for batch in here}:
                with reachable():
                    self._store.redis.zrem(index, *gone)
            if len(found) > limit or len(ids) <= limit:
                return found[:limit], len(found) > limit
            after = ids[-1]

    def cancel(self, batch_id: str, tenant: str) -> Batch:
        """Ask for a batch's end. Raises `BatchNotFound`, and `BatchEnded` for one that ended otherwise."""
        if not BATCH_ID.fullmatch(batch_id):
            raise BatchNotFound(batch_id)
        before = self._store.call("batch_cancel", batch_id, tenant).decode()
        if before in (BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED):
            raise BatchEnded(f"The batch is {before} and cannot be cancelled.")
        return self.get(batch_id, tenant)

    def is_open(self, batch_id: str) -> bool:
        """Whether a batch has not ended."""
        with reachable():
            return self._store.redis.zscore(self._store.keys("openbatches"), batch_id) is not None

    def count_open(self) -> int:
        """How many batches have not ended."""
        with reachable():
            return self._store.redis.zcard(self._store.keys("openbatches"))

    # -- the side of who works on them

    def claim(self, lease: float) -> ClaimedBatch | None:
        """The batch that has been due longest, for `lease` seconds; None where none is due."""
        reply = self._store.call("batch_claim", int(lease * 1000))
        if not reply:
            return None
        batch_id, fence, fields, live = reply
        pairs = zip(live[::2], live[1::2], strict=True)
        return ClaimedBatch(
            _batch(batch_id.decode(), fields),
            fence,
            {int(line): _live(where) for line, where in pairs},
        )

    def commit(self, claimed: ClaimedBatch, step: Step, due: float) -> str:
        """Write a step down; the batch is due again in `due` seconds, and is this caller's till then.

        Returns `done`; or nothing was written, and it says why: `fenced`, or another status of the batch.
        """
        fields = _flat(step.fields)
        made = _flat({line: str(where) for line, where in step.made.items()})
        return cast(
            bytes,
            self._store.call(
                "batch_commit",
                *(claimed.batch.id, claimed.fence, claimed.batch.status.value, int(due * 1000)),
                *(self._retention, int(step.closes)),
                *(len(fields), *fields, len(made), *made),
                *(len(step.gathered), *step.gathered, len(step.parts), *step.parts),
                *(step.done, step.bad),
            ),
        ).decode()

    def parts(self, batch_id: str) -> list[str]:
        """The names of the parts of a batch's output."""
        with reachable():
            names = cast(
                list[bytes],
                self._store.redis.lrange(self._store.keys("batchparts", batch_id), 0, -1),
            )
        return [name.decode() for name in names]

    def _read(self, ids: Sequence[str]) -> list[Batch]:
        with reachable():
            pipe = self._store.redis.pipeline(transaction=False)
            for batch_id in ids:
                pipe.hgetall(self._store.keys("batch", batch_id))
            rows = pipe.execute()
        return [
            _batch(one, [part for pair in row.items() for part in pair])
            for one, row in zip(ids, rows, strict=True)
            if row
        ]


def worked_lately(store: JobStore) -> bool:
    """Whether somebody has looked for batches within a minute. Raises `StoreUnavailable`."""
    with reachable():
        return bool(store.redis.exists(store.keys("batchlook")))


def _batch(batch_id: str, flat: Sequence[bytes]) -> Batch:
    fields = {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
    return batch_of({**fields, "id": batch_id})


def _live(where: bytes) -> Live:
    offset, length, custom_id = where.decode().split(" ", 2)
    return Live(int(offset), int(length), custom_id)


def _flat(pairs: Mapping[Any, Any]) -> list[Any]:
    return [part for pair in pairs.items() for part in pair]
