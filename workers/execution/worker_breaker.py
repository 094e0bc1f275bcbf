"""A worker's view of the circuit breakers: its own, for a sick device, and its model's as last heard of.

Its own one hears every outcome in this process, so it goes on while Redis is away.
"""

import threading
import time
from collections.abc import Callable

from shared.domain.breaker import BreakerState, Verdict
from shared.hooks import Observers
from shared.store.breaker import Breaker, BreakerPolicy


def _now() -> int:
    return int(time.monotonic() * 1000)


class WorkerBreaker:
    """Says whether this worker may take jobs. Safe to share between threads.

    `lease` (s) bounds how long a probe of the own breaker may take before another one may begin.
    """

    def __init__(
        self,
        model: str,
        policy: BreakerPolicy,
        observers: Observers,
        lease: float,
        clock: Callable[[], int] = _now,
    ) -> None:
        self.policy = policy
        self._model = model
        self._observers = observers
        self._lease = int(lease * 1000)
        self._clock = clock
        self._lock = threading.Lock()
        self._own = Breaker()
        self._reported = BreakerState.CLOSED
        self._paused = False

    # -- the model's breaker

    @property
    def parked(self) -> bool:
        """Whether the model's breaker let nobody here try when it was last asked."""
        return self._paused

    def heard(self, pause: float, change: tuple[str, str] | None) -> None:
        """What a claim said: seconds until somebody may try, and what this claim changed."""
        self._paused = pause > 0
        self._emit("model", change)

    def changed(self, change: tuple[str, str] | None) -> None:
        """What a report of ours did to the model's breaker."""
        if change is not None:
            self._paused = change[1] != BreakerState.CLOSED
            self._emit("model", change)

    # -- this worker's own

    @property
    def state(self) -> BreakerState:
        """The own breaker's: open, this worker takes nothing; half-open, one job at a time."""
        with self._lock:
            self._own.wait(self._clock())
            change = self._news()
            state = self._reported
        self._emit("worker", change)
        return state

    @property
    def open(self) -> bool:
        """Whether one of the two is known to be open, so that failures are no longer a job's fault."""
        return self._paused or self._reported is BreakerState.OPEN

    def begin(self, holder: str) -> None:
        """An attempt begins here."""
        with self._lock:
            self._own.begin(self._clock(), holder, self._lease)

    def record(self, holder: str, verdict: Verdict) -> None:
        """An attempt ended here; `lost`: the engine host did, whomever it held."""
        with self._lock:
            self._own.record(self.policy, self._clock(), holder, verdict)
            change = self._news()
        self._emit("worker", change)

    def reset(self) -> None:
        """Close it by hand."""
        with self._lock:
            self._own.reset(self._clock())
            change = self._news()
        self._paused = False
        self._emit("worker", change)

    def report(self) -> dict[str, object]:
        """The own breaker for the worker's report."""
        with self._lock:
            status = self._own.status(self._clock())
        return {
            "state": status.state.value,
            "consecutive_failures": status.consecutive_failures,
            "successes": status.successes,
            "failures": status.failures,
            "opened": status.opened,
            "retry_after_ms": status.wait,
        }

    def _news(self) -> tuple[str, str] | None:
        """Under the lock: what has become of the own breaker since that was last reported."""
        old, self._reported = self._reported, self._own.state
        return (old.value, self._reported.value) if old is not self._reported else None

    def _emit(self, scope: str, change: tuple[str, str] | None) -> None:
        if change is not None:
            self._observers.emit("breaker_changed", self._model, scope, *change)
