"""What a deployment as a whole stands at, read from Redis: webhooks that wait, and Redis's own memory."""

from dataclasses import dataclass

from shared.redis.connection import reachable
from shared.store.jobs import JobStore


@dataclass(frozen=True, slots=True)
class Vitals:
    """`backlog`: webhooks that wait. `overdue`: for how many seconds a receiver has been due.

    `batches` have not ended; `batch_overdue`: for how many seconds the next step of one has been due.
    `memory` and `memory_limit` are bytes, None where Redis does not let us ask; a limit of 0 is none.
    """

    backlog: int
    overdue: float
    memory: int | None
    memory_limit: int | None
    batches: int = 0
    batch_overdue: float = 0.0


def read_vitals(store: JobStore) -> Vitals:
    """In one round trip. Raises `StoreUnavailable`."""
    with reachable():
        pipe = store.redis.pipeline(transaction=False)
        pipe.zcard(store.keys("pending"))
        pipe.zrange(store.keys("tellers"), 0, 0, withscores=True)
        pipe.zcard(store.keys("openbatches"))
        pipe.zrange(store.keys("openbatches"), 0, 0, withscores=True)
        pipe.time()
        pipe.info("memory")
        backlog, first, batches, batch, moment, info = pipe.execute(raise_on_error=False)
        for answer in (backlog, first, batches, batch, moment):
            if isinstance(answer, Exception):
                raise answer
    seconds, micros = moment
    now = seconds + micros / 1e6
    known = info if isinstance(info, dict) else {}
    memory, limit = known.get("used_memory"), known.get("maxmemory")
    return Vitals(backlog, _overdue(first, now), memory, limit, batches, _overdue(batch, now))


def _overdue(first: list[tuple[bytes, float]], now: float) -> float:
    """By how many seconds the first of a sorted set, whose scores are in ms, is behind."""
    return max(0.0, now - first[0][1] / 1000) if first else 0.0
