"""Who waits for a model: its lanes, each of one class and tenant, in the order in which they are served; and
whose jobs run.
"""

from collections import Counter
from typing import NamedTuple

from shared.domain.states import CLASSES
from shared.redis.connection import reachable
from shared.store.jobs import JobStore

MOST = 50
"""Lanes of a class that are told, those whose turn is next; and tenants with running jobs."""
MOST_RUNNING = 1000
"""Running jobs of a model that are looked at."""


class Lane(NamedTuple):
    """A tenant's waiting jobs of one priority: how many, and what they cost together."""

    priority: str
    tenant: str
    waiting: int
    cost: int


class Lanes(NamedTuple):
    """`more`: so many lanes are not told."""

    told: list[Lane]
    more: int

    def share(self, lane: Lane) -> float:
        """A lane's part of the work that waits in all that are told, from 0 to 1."""
        return lane.cost / max(1, sum(one.cost for one in self.told))


class Running(NamedTuple):
    """A model's running jobs by tenant, the most first: of `total` that were looked at; `more` were not."""

    told: list[tuple[str, int]]
    total: int
    more: int

    def share(self, jobs: int) -> float:
        """So many jobs' part of all that run, from 0 to 1."""
        return jobs / max(1, self.total)


def read_running(store: JobStore, model: str, tenant: str | None = None) -> Running:
    """Whose jobs run on a model: of one tenant or of all, of which the first `MOST` are told.

    Two round trips. Raises `StoreUnavailable`.
    """
    with reachable():
        pipe = store.redis.pipeline(transaction=False)
        leases = store.keys("leases", model)
        pipe.zrange(leases, 0, MOST_RUNNING - 1)
        pipe.zcard(leases)
        ids, leased = pipe.execute()
        for job_id in ids:
            pipe.hget(store.keys("job", job_id.decode()), "tenant")
        owners = [whose.decode() for whose in pipe.execute() if whose is not None]
    told = [row for row in Counter(owners).most_common() if tenant in (None, row[0])]
    return Running(told[:MOST], len(owners), leased - len(ids))


def read_lanes(store: JobStore, model: str, tenant: str | None = None) -> Lanes:
    """The lanes of a model, of one tenant or of all: the highest priority first, then whose turn is next.

    Two round trips. Raises `StoreUnavailable`.
    """
    lanes, more = _active(store, model) if tenant is None else ([(c, tenant) for c in CLASSES], 0)
    with reachable():
        pipe = store.redis.pipeline(transaction=False)
        for priority, whose in lanes:
            pipe.zcard(store.keys("lane", model, priority, whose))
            pipe.hget(store.keys("queue", model), f"cost:{priority}:{whose}")
        read = pipe.execute()
    rows = [
        Lane(priority, whose, waiting, max(0, int(cost or 0)))
        for (priority, whose), waiting, cost in zip(lanes, read[::2], read[1::2], strict=True)
    ]
    return Lanes([lane for lane in rows if lane.waiting], more)


def _active(store: JobStore, model: str) -> tuple[list[tuple[str, str]], int]:
    """Priority and tenant of the lanes that have jobs, and how many there are besides."""
    with reachable():
        pipe = store.redis.pipeline(transaction=False)
        for priority in CLASSES:
            active = store.keys("active", model, priority)
            pipe.zrange(active, 0, MOST - 1)
            pipe.zcard(active)
        read = pipe.execute()
    lanes = [
        (priority, name.decode())
        for priority, names in zip(CLASSES, read[::2], strict=True)
        for name in names
    ]
    return lanes, sum(read[1::2]) - len(lanes)
