"""What a deployment as a whole stands at, read from Redis: webhooks that wait, and Redis's own memory."""

from dataclasses import dataclass

from shared.redis.connection import reachable
from shared.store.jobs import JobStore


@dataclass(frozen=True, slots=True)
class Vitals:
    """`backlog`: webhooks that wait. `overdue`: for how many seconds a receiver has been due.

    `memory` and `memory_limit` are bytes, None where Redis does not let us ask; a limit of 0 is none.
    """

    backlog: int
    overdue: float
    memory: int | None
    memory_limit: int | None


def read_vitals(store: JobStore) -> Vitals:
    """In one round trip. Raises `StoreUnavailable`."""
    with reachable():
        pipe = store.redis.pipeline(transaction=False)
        pipe.zcard(store.keys("pending"))
        pipe.zrange(store.keys("tellers"), 0, 0, withscores=True)
        pipe.time()
        pipe.info("memory")
        backlog, first, moment, info = pipe.execute(raise_on_error=False)
        for answer in (backlog, first, moment):
            if isinstance(answer, Exception):
                raise answer
    seconds, micros = moment
    overdue = max(0.0, seconds + micros / 1e6 - first[0][1] / 1000) if first else 0.0
    known = info if isinstance(info, dict) else {}
    return Vitals(backlog, overdue, known.get("used_memory"), known.get("maxmemory"))
