"""Renews what a worker holds, three times a lease: the leases of its attempts, its drain, its report.

The answer says which leases are lost, which jobs are to be canceled, and how many jobs wait: so a message
that was lost on the way is made up for here, and a doorbell that never came is answered all the same.
"""

import logging
import threading

import msgspec

from shared.domain.errors import StoreUnavailable
from shared.store.jobs import JobStore
from workers.execution.executor import Executor
from workers.queue.claimer import Claimer
from workers.queue.doorbells import Doorbells
from workers.queue.worker_report import BEATS_A_LEASE, worker_report

UNHEARD_BEATS = 2
STUCK_BEATS = 6

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class LeaseRenewer:
    """One thread that beats for `worker`; `doorbells` hears of every beat."""

    def __init__(
        self,
        store: JobStore,
        executor: Executor,
        claimer: Claimer,
        doorbells: Doorbells,
        model: str,
        worker: str,
    ) -> None:
        self._store = store
        self._executor = executor
        self._claimer = claimer
        self._doorbells = doorbells
        self._model = model
        self._worker = worker
        self._taken = 0
        self._unheard = 0
        self._stuck = 0
        self._due = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-renewer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Renew no more leases, and sign the worker off in the store."""
        self._stopped.set()
        self._due.set()
        self._thread.join(timeout=5)
        try:
            self._store.beat(self._model, self._worker, b"", [])
        except StoreUnavailable:
            _log.info("could not sign off; the rescuer will")

    def soon(self) -> None:
        """Beat now: something worth reporting has changed."""
        self._due.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._due.clear()
            self._beat()
            self._due.wait(self._store.lease / BEATS_A_LEASE)

    def _beat(self) -> None:
        leases = self._executor.leases()
        report = worker_report(
            self._store,
            self._executor,
            self._doorbells,
            self._model,
            self._worker,
            stuck=self._stuck >= STUCK_BEATS,
        )
        try:
            beat = self._store.beat(
                self._model,
                self._worker,
                _encode(report),
                leases,
                drain=self._claimer.drain_id,
                drain_ttl=self._store.lease,
            )
        except StoreUnavailable as error:
            _log.warning("leases of %d jobs were not renewed: %s", len(leases), error)
            return
        self._executor.renewed(leases, beat.results)
        taken, before = self._executor.taken, self._taken
        self._taken = taken
        self._look_at_queue(beat.waiting, took=taken != before)
        # Not while Redis is away: silence would mean nothing, and the ring would wait for it.
        self._doorbells.beat(took=taken != before)

    def _look_at_queue(self, waiting: int, *, took: bool) -> None:
        """Answer for doorbells that do not come: jobs wait, we could work, and nobody rang for us.

        Celery's consumer may be alive but deaf after a broken connection, and rings can be lost.
        """
        takes = self._executor.room() > 0 and not self._executor.breaker.parked
        self._stuck = self._stuck + 1 if waiting > 0 and takes and not took else 0
        unheard = waiting > 0 and self._executor.ready and not self._claimer.drain_id
        self._unheard = self._unheard + 1 if unheard else 0
        if self._unheard > UNHEARD_BEATS:
            self._unheard = 0
            _log.warning("%d jobs wait and no doorbell came; claiming without one", waiting)
            threading.Thread(target=self._claimer.drain, name="unrung-drain", daemon=True).start()
