"""A model's worker without Celery: executor, claimer and lease renewer, started and stopped as one."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from shared.domain.models.catalog import ModelSpec
from shared.hooks import Hooks, Observers
from shared.store.jobs import JobStore
from workers.engine_host.client import HostOptions
from workers.engine_host.shared_host import SharedHost
from workers.execution.executor import Executor
from workers.execution.input_files import InputFiles
from workers.execution.output_files import OutputFiles
from workers.queue.claimer import IDLE_SECONDS, Claimer
from workers.queue.control_listener import ControlListener
from workers.queue.doorbells import Doorbells
from workers.queue.lease_renewer import LeaseRenewer
from workers.queue.worker_report import BEATS_A_LEASE

CLAIM_SECONDS = 2.0
_log = logging.getLogger(__name__)


class EngineLog(Hooks):
    """Logs what becomes of the engine host."""

    def engine_changed(self, model: str, state: str, detail: str) -> None:
        level = logging.ERROR if state == "failed" else logging.INFO
        _log.log(level, "engine of %s: %s %s", model, state, detail)


class BreakerLog(Hooks):
    """Logs when a circuit breaker changes."""

    def breaker_changed(self, model: str, scope: str, old: str, new: str) -> None:
        level = logging.INFO if new == "closed" else logging.WARNING
        _log.log(level, "breaker of %s (%s): %s, was %s", model, scope, new, old)


class Runtime:
    """Serves one model in this process. `ring` pushes a doorbell for it, `probe` one unless one waits;
    `drain` answers one. `host`: the engine host that it shares with others, or how its own is to be;
    `inputs`: files that jobs may refer to; `outputs`: files that they may make.
    """

    def __init__(
        self,
        store: JobStore,
        spec: ModelSpec,
        worker: str,
        ring: Callable[[], object],
        *,
        drain_time: float = 20.0,
        idle_seconds: float = IDLE_SECONDS,
        hooks: Sequence[Hooks] = (),
        host: SharedHost | HostOptions | None = None,
        inputs: InputFiles | None = None,
        outputs: OutputFiles | None = None,
        probe: Callable[[], object] | None = None,
    ) -> None:
        self._drain_time = drain_time
        self._ring = ring
        self.observers = observers = Observers(EngineLog(), BreakerLog(), *hooks)
        self.executor = Executor(
            store,
            spec,
            worker,
            observers,
            self._push_doorbell,
            self._changed,
            self._engine_changed,
            host,
            inputs,
            outputs,
        )
        self.claimer = Claimer(
            store, self.executor, spec.name, worker, observers, self._push_doorbell, idle_seconds
        )
        self.doorbells = Doorbells(probe or ring, store.lease / BEATS_A_LEASE)
        self.lease_renewer = LeaseRenewer(
            store, self.executor, self.claimer, self.doorbells, spec.name, worker
        )
        self.control_listener = ControlListener(
            store, self.executor, self.claimer, spec.name, worker, self.lease_renewer.soon
        )

    def start(self) -> None:
        self.executor.start()
        self.lease_renewer.start()
        self.control_listener.start()

    def drain(self) -> int:
        """Answer a doorbell. Returns how many jobs it claimed."""
        first = self.doorbells.heard_seconds is None
        with self.doorbells.answering():
            if first:
                # From now on this worker is ready, as far as its consumer goes.
                self.lease_renewer.soon()
            return self.claimer.drain()

    def stop_claiming(self) -> None:
        """Safe in a signal handler: only sets flags."""
        self.doorbells.stop()
        self.claimer.stop()

    def stop(self) -> None:
        """Finish what fits into the drain time, give the rest back uncharged, end the engine host."""
        self.stop_claiming()
        if not self.claimer.await_claim(timeout=CLAIM_SECONDS):
            _log.warning("a claim is still under way; the leases of its jobs will run out")
        until = time.monotonic() + self._drain_time
        while self.executor.active and time.monotonic() < until:
            time.sleep(0.05)
        self.executor.release_quarantine()
        returned = self.executor.active
        self.executor.give_back()
        if not self.executor.completer.flush(timeout=2.0):
            _log.warning("some results could not be written; their leases will run out")
        self.control_listener.stop()
        self.lease_renewer.stop()
        self.executor.stop()
        if returned:
            _log.info("%d jobs were given back to the queue", returned)

    def _push_doorbell(self) -> None:
        self._ring()

    def _changed(self) -> None:
        self.claimer.room_changed()

    def _engine_changed(self) -> None:
        self.claimer.look_again()
        self.lease_renewer.soon()


def stop_all(runtimes: Sequence[Runtime]) -> None:
    """Stop several at once: each may take the whole drain time."""
    threads = [threading.Thread(target=runtime.stop, name="stopping") for runtime in runtimes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
