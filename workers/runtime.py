"""A model worker's parts, wired: executor and engine host, puller, keeper. Started and stopped as one."""

import logging
import time
from collections.abc import Callable, Sequence

from shared.domain.catalog import ModelSpec
from shared.hooks import Hooks, Observers
from shared.store.jobs import JobStore
from workers.engine_host.client import HostOptions
from workers.execution.executor import Executor
from workers.queue.claimer import LINGER_SECONDS, Claimer
from workers.queue.doorbells import Doorbells
from workers.queue.lease_renewer import BEATS_A_LEASE, LeaseRenewer

SETTLE_SECONDS = 2.0
_log = logging.getLogger(__name__)


class EngineLog(Hooks):
    """Says on the log what becomes of the engine host."""

    def engine_changed(self, model: str, state: str, detail: str) -> None:
        level = logging.ERROR if state == "failed" else logging.INFO
        _log.log(level, "engine of %s: %s %s", model, state, detail)


class BreakerLog(Hooks):
    """Says on the log when a circuit breaker changes."""

    def breaker_changed(self, model: str, scope: str, old: str, new: str) -> None:
        level = logging.INFO if new == "closed" else logging.WARNING
        _log.log(level, "breaker of %s (%s): %s, was %s", model, scope, new, old)


class Runtime:
    """Serves one model in this process. `ring` pushes a doorbell for it, `probe` one unless one waits;
    `drain` answers one.
    """

    def __init__(
        self,
        store: JobStore,
        spec: ModelSpec,
        worker: str,
        ring: Callable[[], object],
        *,
        drain_time: float = 20.0,
        linger: float = LINGER_SECONDS,
        hooks: Sequence[Hooks] = (),
        host: HostOptions | None = None,
        probe: Callable[[], object] | None = None,
    ) -> None:
        self._drain_time = drain_time
        self._ring = ring
        self.observers = observers = Observers(EngineLog(), BreakerLog(), *hooks)
        self.executor = Executor(
            store, spec, worker, observers, self._rung, self._changed, self._engine_changed, host
        )
        self.puller = Claimer(
            store, self.executor, spec.name, worker, observers, self._rung, linger
        )
        self.doorbells = Doorbells(probe or ring, store.lease / BEATS_A_LEASE)
        self.keeper = LeaseRenewer(
            store,
            self.executor,
            spec.name,
            worker,
            lambda: self.puller.drain_id,
            self.puller.rouse,
            self.puller.wake,
            self.puller.drain,
            self.doorbells,
        )

    def start(self) -> None:
        self.executor.start()
        self.keeper.start()

    def drain(self) -> int:
        """Answer a doorbell. Returns how many jobs it claimed."""
        first = self.doorbells.heard_seconds is None
        with self.doorbells.answering():
            if first:
                # From now on this worker is ready, as far as its consumer goes.
                self.keeper.soon()
            return self.puller.drain()

    def stop_claiming(self) -> None:
        """Safe in a signal handler: only sets flags."""
        self.doorbells.stop()
        self.puller.stop()

    def stop(self) -> None:
        """Finish what fits into the drain time, give the rest back uncharged, end the engine host."""
        self.stop_claiming()
        if not self.puller.settle(timeout=SETTLE_SECONDS):
            _log.warning("a claim is still under way; the leases of its jobs will run out")
        until = time.monotonic() + self._drain_time
        while self.executor.active and time.monotonic() < until:
            time.sleep(0.05)
        self.executor.release_quarantine()
        returned = self.executor.active
        self.executor.give_back()
        if not self.executor.scribe.flush(timeout=2.0):
            _log.warning("some results could not be written; their leases will run out")
        self.keeper.stop()
        self.executor.stop()
        if returned:
            _log.info("%d jobs were given back to the queue", returned)

    def _rung(self) -> None:
        self._ring()

    def _changed(self) -> None:
        self.puller.room_changed()

    def _engine_changed(self) -> None:
        self.puller.wake()
        self.keeper.soon()
