"""What has gathered: waiting jobs and webhooks, and what was given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from shared.redis.connection import reachable
from shared.store.jobs import JobStore


@dataclass(frozen=True, slots=True)
class Backlog:
    """A model's waiting jobs, in ms: since the oldest was made, and until all will have been started.

    None where nothing waits; `drained_in` also where nobody knows how fast the queue drains.
    """

    oldest: int | None
    drained_in: int | None


@dataclass(frozen=True, slots=True)
class Leftovers:
    """`webhooks` wait, the oldest for `oldest_webhook` ms; a tenant's given up webhooks and dead letters."""

    webhooks: int
    oldest_webhook: int | None
    undelivered: int
    dead_letters: int


def read_backlogs(store: JobStore, models: Sequence[str]) -> list[Backlog]:
    """One for each model, in one round trip. Raises `StoreUnavailable`."""
    told = cast(list[int], store.call("backlog", *models))
    return [
        Backlog(_known(oldest), _known(drained))
        for oldest, drained in zip(told[::2], told[1::2], strict=True)
    ]


def read_leftovers(store: JobStore, tenant: str) -> Leftovers:
    """In one round trip; raises `StoreUnavailable`. Webhooks that wait are those of all tenants."""
    with reachable():
        pipe = store.redis.pipeline(transaction=False)
        pipe.zcard(store.keys("pending"))
        pipe.zrange(store.keys("pending"), 0, 0, withscores=True)
        pipe.zcard(store.keys("undelivered", tenant))
        pipe.zcard(store.keys("dead", tenant))
        pipe.time()
        waiting, first, undelivered, dead, (seconds, micros) = pipe.execute()
    now = seconds * 1000 + micros // 1000
    age = max(0, now - int(first[0][1])) if first else None
    return Leftovers(waiting, age, undelivered, dead)


def _known(value: int) -> int | None:
    return None if value < 0 else value
