"""Runs of a cell: jobs that come by chance, or clients that each have one job at a time."""

import math
import random
from collections.abc import Callable

import msgspec

from bench.figures import percentile
from bench.simulation.cell import Cell, Shape
from bench.simulation.costs import Costs
from bench.simulation.kernel import Timeline
from bench.simulation.worker import Job

SEED = 20261123


class Outcome(msgspec.Struct, frozen=True):
    """What a run brought in its measured time.

    `seconds` is how long that was; `offered` and `rate` are jobs a second that came and that ended.
    Times are in milliseconds, from a job's submit to its end at the client. `redis`, `api`, `slots`,
    `drains` are utilisations, of 1.
    `redis_us` is microseconds of Redis a job, by kind of call. `calls`: Redis requests a job.
    """

    seconds: float
    offered: float
    rate: float
    p50: float
    p99: float
    redis: float
    api: float
    slots: float
    drains: float
    redis_us: dict[str, float]
    calls: dict[str, float]
    submitted: int
    ended: int
    inside: int

    @property
    def keeps_up(self) -> bool:
        """Whether what came also ended, but for what chance explains: four deviations of a Poisson count."""
        return self.rate * self.seconds >= self.offered * self.seconds - 4 * math.sqrt(
            self.offered * self.seconds
        )

    @property
    def demand_us(self) -> float:
        """Microseconds of Redis a job: S in U = lambda * S."""
        return sum(self.redis_us.values())


def open_loop(
    costs: Costs, shape: Shape, rate: float, *, seconds: float = 10.0, warm_up: float = 5.0
) -> Outcome:
    """Poisson arrivals of `rate` jobs a second, whatever becomes of them."""
    draw = random.Random(SEED)
    return _run(costs, shape, lambda: draw.expovariate(rate), 0, warm_up, seconds)


def closed_loop(
    costs: Costs, shape: Shape, clients: int, *, seconds: float = 10.0, warm_up: float = 5.0
) -> Outcome:
    """Clients that each send a job, wait for its end and send the next."""
    return _run(costs, shape, None, clients, warm_up, seconds)


def _run(
    costs: Costs,
    shape: Shape,
    gap: Callable[[], float] | None,
    clients: int,
    warm_up: float,
    seconds: float,
) -> Outcome:
    timeline = Timeline()
    latencies: list[float] = []
    counts = {"submitted": 0, "ended": 0}
    thinking = costs.processes.client_job / 1e6

    def submit() -> None:
        counts["submitted"] += 1
        cell.submit(Job(timeline.now, shape.tokens))

    def arrive() -> None:
        assert gap is not None
        submit()
        timeline.after(gap(), arrive)

    def done(job: Job) -> None:
        counts["ended"] += 1
        latencies.append(timeline.now - job.made)
        if not clients:
            return
        if cell.cores is not None:
            cell.cores.run(thinking, submit)
        else:
            submit()

    cell = Cell(timeline, shape, costs.redis, costs.processes, done)
    if gap is not None:
        timeline.after(gap(), arrive)
    for _ in range(clients):
        timeline.at(0.0, submit)
    timeline.run(warm_up)
    before = dict(counts)
    busy, served = dict(cell.redis.busy), dict(cell.redis.served)
    api = sum(sum(a.server.busy.values()) for a in cell.apis)
    slots = sum(w.slot_seconds for w in cell.workers)
    latencies.clear()
    timeline.run(warm_up + seconds)
    ended = counts["ended"] - before["ended"]
    each = max(1, ended)
    spent = {kind: total - busy.get(kind, 0.0) for kind, total in cell.redis.busy.items()}
    ordered = sorted(latencies)
    api = sum(sum(a.server.busy.values()) for a in cell.apis) - api
    slots = sum(w.slot_seconds for w in cell.workers) - slots
    return Outcome(
        seconds=seconds,
        offered=(counts["submitted"] - before["submitted"]) / seconds,
        rate=ended / seconds,
        p50=percentile(ordered, 0.5) * 1000,
        p99=percentile(ordered, 0.99) * 1000,
        redis=sum(spent.values()) / seconds,
        api=api / seconds / shape.apis,
        slots=slots / seconds / (shape.workers * shape.capacity),
        drains=len(cell.drains) / shape.workers,
        redis_us={kind: total * 1e6 / each for kind, total in spent.items()},
        calls={k: (n - served.get(k, 0)) / each for k, n in cell.redis.served.items()},
        submitted=counts["submitted"],
        ended=counts["ended"],
        inside=len(cell.queue) + sum(w.held for w in cell.workers),
    )
