"""What is compared with what, and how long each turn is."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

import msgspec

from bench.clients.shapes import Shape
from bench.reporting.goals import DURABLE, Goal
from bench.subjects import Subject
from bench.subjects.in_memory import bentoml, litserve, ray_serve
from bench.subjects.ours import Ours
from bench.subjects.queued import (
    FASTAPI_TASKIQ,
    FLASK_CELERY,
    FLASK_CELERY_BATCHES,
    FLASK_DRAMATIQ,
    Queued,
)

Make = Callable[[], Subject]


class Plan(msgspec.Struct, frozen=True):
    """Rounds, and for each turn the seconds before and within the measured time, and the shape of the
    requests; see `Order`.
    """

    rounds: int
    warm_up: float
    seconds: float
    settle: float = 2.0
    shape: Shape = "client"


@dataclass(frozen=True, slots=True)
class Contest:
    """One kind of work that all subjects do in turn.

    `ours` comes first in a round. A peer measured in several variants counts with its best one.
    `more` are variants for the long run only. `figure` is the one that all peers are compared in. With
    `half_of`, jobs arrive by themselves, half as many a second as that peer can do.
    """

    name: str
    title: str
    clients: int
    ours: Make
    peers: tuple[Make, ...]
    figure: str
    goals: tuple[Goal, ...]
    more: tuple[Make, ...] = ()
    half_of: str | None = None

    def subjects(self, quick: bool, peers: Collection[str] | None = None) -> list[Subject]:
        """New subjects in the order of a round; of the peers those whose slug is in `peers`."""
        made = [make() for make in (self.ours, *self.peers, *(() if quick else self.more))]
        return [s for s in made if s is made[0] or peers is None or slug(s.name) in peers]


def slug(name: str) -> str:
    """A peer's name on the command line: `Flask + dramatiq` is `dramatiq`, `Ray Serve` is `ray-serve`."""
    return name.rpartition(" + ")[2].lower().replace(" ", "-")


QUICK = Plan(rounds=1, warm_up=2.0, seconds=3.0)
FULL = Plan(rounds=2, warm_up=2.0, seconds=6.0)

CAPACITY_CLIENTS = 64
MOST_OPEN = 1000

CONTESTS = (
    Contest(
        name="infer",
        title="Echo jobs, submit to result",
        clients=CAPACITY_CLIENTS,
        ours=Ours,
        peers=(
            partial(Queued, FLASK_CELERY, poll=0.05),
            partial(Queued, FLASK_CELERY),
            partial(Queued, FLASK_CELERY_BATCHES, poll=0.05),
            partial(Queued, FLASK_DRAMATIQ),
            partial(Queued, FASTAPI_TASKIQ, poll=0.05),
            litserve,
            ray_serve,
            bentoml,
        ),
        more=(
            partial(Queued, FLASK_CELERY, poll=0.1),
            partial(Queued, FLASK_DRAMATIQ, poll=0.05),
            partial(litserve, batch_size=1),
            partial(ray_serve, fast=False),
        ),
        figure="rate",
        goals=(
            Goal("rate", 3.5, FLASK_CELERY.name),
            Goal("rate", 2.0, FLASK_DRAMATIQ.name),
            Goal("rate", 1.4, litserve().name),
            Goal("worker_ms", 0.15, FLASK_CELERY.name),
        ),
    ),
    Contest(
        name="submit",
        title="Echo jobs accepted, no worker running",
        clients=CAPACITY_CLIENTS,
        ours=partial(Ours, submit_only=True),
        peers=(partial(Queued, FLASK_CELERY, submit_only=True),),
        more=(
            partial(Queued, FLASK_DRAMATIQ, submit_only=True),
            partial(Queued, FASTAPI_TASKIQ, submit_only=True),
        ),
        figure="rate",
        goals=(Goal("rate", 2.5, FLASK_CELERY.name),),
    ),
    Contest(
        name="latency",
        title="Echo jobs of one client alone, submit to result",
        clients=1,
        ours=Ours,
        peers=(partial(Queued, FLASK_CELERY), partial(Queued, FLASK_DRAMATIQ)),
        more=(
            partial(Queued, FLASK_CELERY, poll=0.005),
            partial(Queued, FASTAPI_TASKIQ),
            partial(litserve, batch_size=1),
        ),
        figure="p50",
        goals=(Goal("p50", 5.0), Goal("p50", 0.5, DURABLE)),
    ),
    Contest(
        name="open-loop",
        title="Echo jobs arriving by a Poisson process, arrival to result",
        clients=MOST_OPEN,
        ours=Ours,
        peers=(partial(Queued, FLASK_CELERY),),
        more=(partial(Queued, FLASK_CELERY, poll=0.02),),
        figure="p99",
        goals=(Goal("p99", 0.5, FLASK_CELERY.name),),
        half_of=FLASK_CELERY.name,
    ),
)
