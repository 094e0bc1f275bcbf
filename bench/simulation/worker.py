"""A worker: drains that claim while the engine has room, an engine that steps, a scribe that writes."""

import heapq
import math
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from bench.simulation.costs import MICRO
from bench.simulation.kernel import Server

if TYPE_CHECKING:
    from bench.simulation.cell import Api, Cell

POLL_SECONDS = 1.0
FLUSH_SECONDS = 0.25
UNHEARD_BEATS = 2
BRPOP_SECONDS = 1.0
"""Celery looks for doorbells so often."""


@dataclass(eq=False, slots=True)
class Job:
    """`left` is how many tokens are to come, `unsaid` how many no event holds yet."""

    made: float
    left: int = 1
    unsaid: int = 0
    api: "Api | None" = None


@dataclass(order=True, slots=True)
class Cohort:
    """Jobs that were claimed together and step together."""

    due: float
    number: int
    jobs: list[Job] = field(compare=False)


class Worker:
    def __init__(self, cell: "Cell", number: int) -> None:
        self._cell = cell
        self._timeline, self._shape = cell.timeline, cell.shape
        self.server = Server(cell.timeline, cell.cores)
        self.engine = Server(cell.timeline, cell.cores)
        self.held = 0
        self.draining = self._knows = False
        self.slot_seconds = 0.0
        self._counted = 0.0
        self._claiming = self._signing_off = self._again = False
        self._total, self._idle_since, self._turn = 0, 0.0, 0
        self._cohorts: list[Cohort] = []
        self._numbers = count()
        self._appends = 0
        self._ends: list[Job] = []
        self._writing = False
        self._to_flower = 0
        self._unheard = 0
        # Workers do not beat in step.
        share = (number + 0.5) / self._shape.workers
        self._timeline.after(share * self._shape.lease / 3, self._beat)
        self._timeline.after(share * FLUSH_SECONDS, self._flush)

    # -- the drain (workers/queue/claimer.py)

    def drain(self) -> None:
        if self.draining:
            return
        self.draining = True
        self._total, self._idle_since = 0, self._timeline.now
        self._claim()

    def wake(self) -> None:
        """Look for jobs now, or once the present look is over."""
        if not self.draining:
            return
        if self._claiming or self._signing_off:
            self._again = True
        else:
            self._claim()

    def _claim(self) -> None:
        self._claiming, self._again = True, False
        costs, room = self._cell.costs, self._shape.capacity - self.held

        def demand() -> tuple[str, float]:
            found = min(room, len(self._cell.queue))
            if not found:
                return "claim nothing", costs.claim_nothing * MICRO
            return "claim", (costs.claim + costs.claim_job * found) * MICRO

        self._cell.redis.ask(demand, lambda: self._claimed(room))

    def _claimed(self, room: int) -> None:
        jobs, cell = self._cell.claimed(self, room), self._cell
        waiting = len(cell.queue)
        self._claiming = False
        self._total += len(jobs)
        self._knows = waiting > 0 or len(jobs) == room
        if jobs:
            self._hold(len(jobs))
            seconds = cell.processes.worker_job * len(jobs) * MICRO
            self.server.serve("worker", seconds, lambda: self._admit(jobs))
        if self.held:
            self._idle_since = self._timeline.now
        if self._again or (jobs and waiting and self._shape.capacity > self.held):
            self._claim()
        else:
            self._rest()

    def _rest(self) -> None:
        """Wait to be woken, for a second at most while jobs run; sign off after lingering idle."""
        self._turn += 1
        turn = self._turn
        if self.held:
            pause = POLL_SECONDS
        elif self._total:
            pause = max(0.0, self._idle_since + self._shape.linger - self._timeline.now)
        else:
            pause = 0.0
        self._timeline.after(pause, lambda: self._rested(turn))

    def _rested(self, turn: int) -> None:
        if turn != self._turn or self._claiming or self._signing_off or not self.draining:
            return
        if self.held:
            self._claim()
        else:
            self._signing_off = True
            costs = self._cell.costs
            self._cell.redis.serve("claim nothing", costs.claim_nothing * MICRO, self._sign_off)

    def _sign_off(self) -> None:
        self._signing_off = False
        if self._cell.queue:
            self._claim()
            return
        self._cell.drains.discard(self)
        self._cell.forget(self)
        self.draining = False
        self._cell.at_rest(self)

    # -- the engine

    def _admit(self, jobs: list[Job]) -> None:
        now, step = self._timeline.now, self._shape.step
        if not step:
            seconds = self._cell.processes.engine_job * len(jobs) * MICRO
            self.engine.serve("engine", seconds, lambda: self._say(jobs))
            return
        due = (math.floor(now / step) + 1) * step + step if self._shape.aligned else now + step
        heapq.heappush(self._cohorts, Cohort(due, next(self._numbers), jobs))
        self._timeline.at(due, self._step)

    def _step(self) -> None:
        now = self._timeline.now
        stepped: list[Job] = []
        while self._cohorts and self._cohorts[0].due <= now + 1e-9:
            cohort = heapq.heappop(self._cohorts)
            stepped += cohort.jobs
            going_on = [job for job in cohort.jobs if job.left > 1]
            if going_on:
                due = cohort.due + self._shape.step
                heapq.heappush(self._cohorts, Cohort(due, cohort.number, going_on))
                self._timeline.at(due, self._step)
        if stepped:
            self._say(stepped)

    def _say(self, jobs: list[Job]) -> None:
        """A step's pieces and ends; room that came free wakes a drain that knows of others or was full."""
        ends: list[Job] = []
        events = 0
        for job in jobs:
            job.left -= 1
            job.unsaid += 1
            if job.unsaid >= self._shape.merge or job.left <= 0:
                job.unsaid = 0
                events += 1
            if job.left <= 0:
                ends.append(job)
        extra = self._cell.processes.worker_event if self._shape.tokens > 1 else 0.0
        self.server.serve("worker", events * extra * MICRO, lambda: self._tell(events, ends))

    def _tell(self, events: int, ends: list[Job]) -> None:
        self._appends += events
        self._ends += ends
        self._write()
        if ends:
            self._hold(-len(ends))
            if self._knows:
                self.wake()

    def _hold(self, more: int) -> None:
        self.slot_seconds += self.held * (self._timeline.now - self._counted)
        self._counted = self._timeline.now
        self.held += more

    # -- the scribe

    def _write(self) -> None:
        if self._writing or not (self._appends or self._ends):
            return
        self._writing = True
        appends, self._appends = self._appends, 0
        ends, self._ends = self._ends, []
        costs, shape = self._cell.costs, self._shape
        event = costs.append + (shape.merge - 1) * costs.token
        if shape.streamed:
            event += costs.subscriber
        streamed = (costs.write + event * appends) * MICRO if shape.tokens > 1 else 0.0
        ending = costs.finish * len(ends) * MICRO
        if shape.tokens == 1:
            ending += (costs.write + event * appends) * MICRO

        def written() -> None:
            self._writing = False
            self._to_flower += len(ends)
            self._cell.ended(ends)
            self._write()

        redis = self._cell.redis
        if streamed:
            redis.serve("events", streamed, lambda: redis.serve("finish", ending, written))
        else:
            redis.serve("finish", ending, written)

    # -- what it says of itself

    def _beat(self) -> None:
        costs, pause = self._cell.costs, self._shape.lease / 3
        micro = costs.beat + costs.beat_lease * self.held + costs.trip * pause / BRPOP_SECONDS
        self._cell.redis.serve("background", micro * MICRO)
        self._timeline.after(pause, self._beat)
        self._unheard = self._unheard + 1 if self._cell.queue and not self.draining else 0
        if self._unheard > UNHEARD_BEATS:
            self._unheard = 0
            self.drain()

    def _flush(self) -> None:
        costs, jobs = self._cell.costs, self._to_flower
        if jobs:
            self._to_flower = 0
            micro = costs.flush + costs.flower_job * jobs
            self._cell.redis.serve("Flower", micro * MICRO)
        self._timeline.after(FLUSH_SECONDS, self._flush)
