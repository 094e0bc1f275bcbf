"""The least that a discrete-event simulation needs: a clock with events, and servers with queues."""

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

Action = Callable[[], None]
Demand = Callable[[], tuple[str, float]]
"""What a request is and how many seconds it takes, known when its service begins."""


class Timeline:
    """Runs actions in the order of their times (seconds), those of one time in the order they came."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Action]] = []
        self._numbers = count()

    def at(self, time: float, action: Action) -> None:
        heapq.heappush(self._events, (max(time, self.now), next(self._numbers), action))

    def after(self, seconds: float, action: Action) -> None:
        self.at(self.now + seconds, action)

    def run(self, until: float) -> None:
        """Run what is due before `until`, then stand there."""
        while self._events and self._events[0][0] < until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until


class Cores:
    """Processors that several servers share: first come, first served."""

    def __init__(self, timeline: Timeline, number: int) -> None:
        self._timeline = timeline
        self._free = number
        self._waiting: deque[tuple[float, Action]] = deque()

    def run(self, seconds: float, done: Action) -> None:
        if not self._free:
            self._waiting.append((seconds, done))
            return
        self._free -= 1
        self._timeline.after(seconds, lambda: self._ended(done))

    def _ended(self, done: Action) -> None:
        if self._waiting:
            seconds, following = self._waiting.popleft()
            self._timeline.after(seconds, lambda: self._ended(following))
        else:
            self._free += 1
        done()


class Server:
    """A single thread: serves one request at a time in the order they come, on a core of its own or on
    shared `cores`. `busy` is seconds of service by kind, `served` is requests by kind.
    """

    def __init__(self, timeline: Timeline, cores: Cores | None = None) -> None:
        self._timeline = timeline
        self._cores = cores
        self._waiting: deque[tuple[Demand, Action]] = deque()
        self._occupied = False
        self.busy: dict[str, float] = {}
        self.served: dict[str, int] = {}

    def serve(self, kind: str, seconds: float, done: Action = lambda: None) -> None:
        """Take `seconds` of service as soon as it is this one's turn, then call `done`."""
        self.ask(lambda: (kind, seconds), done)

    def ask(self, demand: Demand, done: Action) -> None:
        """`serve` for a request whose service time depends on what was served before it."""
        if self._occupied:
            self._waiting.append((demand, done))
        else:
            self._occupied = True
            self._begin(demand, done)

    def _begin(self, demand: Demand, done: Action) -> None:
        kind, seconds = demand()
        run = self._cores.run if self._cores is not None else self._timeline.after
        run(seconds, lambda: self._ended(kind, seconds, done))

    def _ended(self, kind: str, seconds: float, done: Action) -> None:
        self.busy[kind] = self.busy.get(kind, 0.0) + seconds
        self.served[kind] = self.served.get(kind, 0) + 1
        done()
        if self._waiting:
            self._begin(*self._waiting.popleft())
        else:
            self._occupied = False
