"""One cell: API processes, one Redis with the job store, workers. The protocol of docs/job_lifecycle.md.

Each script call is served by Redis' one thread and takes effect when its service ends. What the model
leaves out: the network's own time, failures, retries, rate limits that refuse, webhooks.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.simulation.costs import MICRO, ProcessCosts, RedisCosts
from bench.simulation.kernel import Action, Cores, Server, Timeline
from bench.simulation.worker import Job, Worker
from shared.redis.script_pipeline import MOST

BELL_SECONDS = 5.0
RESCUE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A cell's size and its work.

    A job takes `tokens` steps of `step` seconds, or none where that is 0, with up to `capacity` jobs at
    once in a worker. `merge` is how many tokens leave in one event; `streamed`: a reader follows each
    job. `aligned`: all jobs of a worker step together. `cores`: all processes share so many; None: each
    has one of its own. `lease` and `linger` are in seconds, as shipped.
    """

    workers: int
    apis: int
    capacity: int = 32
    tokens: int = 1
    step: float = 0.0
    merge: int = 1
    streamed: bool = False
    aligned: bool = True
    cores: int | None = None
    lease: float = 15.0
    linger: float = 2.0


class Cell:
    """`submit` takes jobs in; `done` is called with each that has ended, at its client."""

    def __init__(
        self,
        timeline: Timeline,
        shape: Shape,
        redis: RedisCosts,
        processes: ProcessCosts,
        done: Callable[[Job], None],
    ) -> None:
        self.timeline, self.shape, self.costs, self.processes = timeline, shape, redis, processes
        self.cores = Cores(timeline, shape.cores) if shape.cores else None
        self.redis = Server(timeline, self.cores)
        self.queue: deque[Job] = deque()
        self.drains: set[Worker] = set()
        self._listening: dict[Worker, None] = {}
        self._full: dict[Worker, None] = {}
        self.apis = [Api(self) for _ in range(shape.apis)]
        self.workers = [Worker(self, number) for number in range(shape.workers)]
        self._done = done
        self._bell_until = 0.0
        self._idle = deque(self.workers)
        self._rings = 0
        self._next_api = 0
        timeline.after(RESCUE_SECONDS, self._rescue)

    def submit(self, job: Job) -> None:
        job.api = self.apis[self._next_api]
        self._next_api = (self._next_api + 1) % len(self.apis)
        job.api.submit(job)

    # -- the store, called when a script's service ends

    def created(self, job: Job) -> None:
        self.queue.append(job)
        self._rouse(full=True)
        self.ring_if_wanted()

    def claimed(self, worker: Worker, room: int) -> list[Job]:
        """Hand out jobs. A drain's first claim answers the bell; if it fills the drain, that rings."""
        if worker not in self.drains:
            self.drains.add(worker)
            self._bell_until = 0.0
        jobs = [self.queue.popleft() for _ in range(min(room, len(self.queue)))]
        filled = len(jobs) == room
        self.forget(worker)
        if not self.queue:
            (self._full if filled else self._listening)[worker] = None
        elif filled:
            self._rouse(full=False)
        if filled:
            self.ring_if_wanted(full=True)
        return jobs

    def forget(self, worker: Worker) -> None:
        """It does not wait to be called any more."""
        self._listening.pop(worker, None)
        self._full.pop(worker, None)

    def ended(self, jobs: list[Job]) -> None:
        for job in jobs:
            assert job.api is not None
            job.api.answer(job)

    def finished(self, job: Job) -> None:
        self._done(job)

    def ring_if_wanted(self, *, full: bool = False) -> None:
        """`ring_wanted` of doorbells.lua, and `relief_wanted` by a drain that is full."""
        now, waiting = self.timeline.now, len(self.queue)
        if waiting == 0 or now < self._bell_until:
            return
        if self.drains and (not full or len(self.workers) <= len(self.drains)):
            return
        self._bell_until = now + BELL_SECONDS
        self.redis.serve("doorbells", 2 * self.costs.trip * MICRO, self._ring)

    def _rouse(self, *, full: bool) -> None:
        """Call the drain that has waited longest, `full` ones if there is no other."""
        for waiting in (self._listening, self._full) if full else (self._listening,):
            if waiting:
                worker = next(iter(waiting))
                del waiting[worker]
                self.redis.serve("wake-ups", self.costs.listener * MICRO, worker.wake)
                return

    # -- doorbells, and the rescuer

    def at_rest(self, worker: Worker) -> None:
        """This worker takes the next doorbell, or one that waits."""
        if self._rings:
            self._rings -= 1
            worker.drain()
        else:
            self._idle.append(worker)

    def _ring(self) -> None:
        while self._idle:
            worker = self._idle.popleft()
            if not worker.draining:
                worker.drain()
                return
        self._rings += 1

    def _rescue(self) -> None:
        costs = self.costs
        seconds = (costs.rescue + costs.rescue_worker * len(self.workers)) * MICRO
        self.redis.serve("background", seconds, self.ring_if_wanted)
        self.timeline.after(RESCUE_SECONDS, self._rescue)


@dataclass(slots=True)
class Errands:
    """Script calls that gather while a pipeline is under way, as in shared/redis/script_pipeline.py."""

    cell: Cell
    kind: str
    cost: float
    waiting: list[Action] = field(default_factory=list)
    under_way: bool = False

    def call(self, effect: Action) -> None:
        self.waiting.append(effect)
        if not self.under_way:
            self._send()

    def _send(self) -> None:
        batch, self.waiting = self.waiting[:MOST], self.waiting[MOST:]
        self.under_way = bool(batch)
        if not batch:
            return

        def back() -> None:
            for effect in batch:
                effect()
            self._send()

        seconds = (self.cell.costs.trip + self.cost * len(batch)) * MICRO
        self.cell.redis.serve(self.kind, seconds, back)


class Api:
    """An API process: half of a job's processor time before its create, half after its end."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self.server = Server(cell.timeline, cell.cores)
        costs = cell.costs
        subscribe = costs.subscribe if cell.shape.streamed else 0.0
        self._creates = Errands(cell, "create", costs.create + subscribe)
        events = -(-cell.shape.tokens // cell.shape.merge) if cell.shape.streamed else 0
        self._half = (cell.processes.api_job + events * cell.processes.api_event) * MICRO / 2

    def submit(self, job: Job) -> None:
        create = lambda: self._creates.call(lambda: self._cell.created(job))  # noqa: E731
        self.server.serve("api", self._half, create)

    def answer(self, job: Job) -> None:
        self.server.serve("api", self._half, lambda: self._cell.finished(job))
