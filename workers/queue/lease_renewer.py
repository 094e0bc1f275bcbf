"""Keeps what a worker holds: leases, its drain, its entry among the workers; and hears cancels.

One thread renews everything in one call a third of a lease; another listens for wake-ups and cancels.
A lost message is made up for: the renewal tells of waiting cancels, and a drain looks for itself.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from redis.exceptions import RedisError

from shared.domain.errors import StoreUnavailable
from shared.redis.connection import heard, subscriber
from shared.store.jobs import JobStore
from workers.engine_host.client import EngineState
from workers.execution.executor import Executor
from workers.queue.doorbells import DEAF_BEATS, Doorbells

LISTEN_SECONDS = 5.0
ANSWER_SECONDS = 2.0
"""For the answer to a PING, after which a silent connection counts as lost."""
OVER = "over"
BEATS_A_LEASE = 3
UNHEARD_BEATS = 2
STUCK_BEATS = 6

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class LeaseRenewer:
    """Renews for `worker`. `drain_id` tells which drain is at work, `roused` hears that this worker is to
    look for jobs, `woken` that everybody is, `drain` pulls jobs when no doorbell does; `doorbells` hears of
    every beat.
    """

    def __init__(
        self,
        store: JobStore,
        executor: Executor,
        model: str,
        worker: str,
        drain_id: Callable[[], str],
        roused: Callable[[], None],
        woken: Callable[[], None],
        drain: Callable[[], object],
        doorbells: Doorbells,
    ) -> None:
        self._store = store
        self._executor = executor
        self._model = model
        self._worker = worker
        self._drain_id = drain_id
        self._roused = roused
        self._woken = woken
        self._drain = drain
        self._doorbells = doorbells
        self._took = 0
        self._unheard = 0
        self._stuck = 0
        self._taken = 0
        self._now = threading.Event()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, name="keeper", daemon=True),
            threading.Thread(target=self._listen, name="control", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Sign the worker off."""
        self._stopped.set()
        self._now.set()
        self._threads[0].join(timeout=5)
        with suppress(RedisError):
            # A word that means nothing, so that the listener looks up and sees that it is over.
            self._store.redis.publish(self._store.keys("rouse", self._worker), OVER)
            self._threads[1].join(timeout=2)
        try:
            self._store.beat(self._model, self._worker, b"", [])
        except StoreUnavailable:
            _log.info("could not sign off; the rescuer will")

    def soon(self) -> None:
        """Beat now: something worth telling has changed."""
        self._now.set()

    def _keep(self) -> None:
        while not self._stopped.is_set():
            self._now.clear()
            self._beat()
            self._now.wait(self._store.lease / BEATS_A_LEASE)

    def _beat(self) -> None:
        held = self._executor.held()
        try:
            beat = self._store.beat(
                self._model,
                self._worker,
                _encode(self._report()),
                held,
                drain=self._drain_id(),
                drain_ttl=self._store.lease,
            )
        except StoreUnavailable as error:
            _log.warning("leases of %d jobs were not renewed: %s", len(held), error)
            return
        self._executor.renewed(held, beat.results)
        self._heed(beat.waiting)
        # Not while Redis is away: silence would mean nothing, and the ring would wait for it.
        self._doorbells.beat(took=self._executor.taken != self._took)
        self._took = self._executor.taken

    def _heed(self, waiting: int) -> None:
        """Answer for doorbells that do not come: jobs wait, we could work, and nobody rang for us.

        Celery's consumer may be alive but deaf after a broken connection, and rings can be lost.
        """
        takes = self._executor.room() > 0 and not self._executor.guard.parked
        idle = waiting > 0 and takes and self._taken == self._executor.taken
        self._stuck = self._stuck + 1 if idle else 0
        self._taken = self._executor.taken
        unheard = waiting > 0 and self._executor.ready and not self._drain_id()
        self._unheard = self._unheard + 1 if unheard else 0
        if self._unheard > UNHEARD_BEATS:
            self._unheard = 0
            _log.warning("%d jobs wait and no doorbell came; pulling without one", waiting)
            threading.Thread(target=self._drain, name="unrung-drain", daemon=True).start()

    def _report(self) -> dict[str, object]:
        engine, active = self._executor.engine, self._executor.active
        info = engine.info
        consuming = not self._doorbells.deaf or self._consumed_by_others()
        return {
            "state": self._state(consuming),
            "consuming": consuming,
            "heard_seconds": self._doorbells.heard_seconds,
            "detail": engine.detail,
            "active": active,
            "capacity": info.capacity if info else 0,
            "engine": {"device": info.device, "dtype": info.dtype, **info.details} if info else {},
            "load_ms": info.load_ms if info else None,
            "restarts": engine.restarts,
            "breaker": self._executor.guard.report(),
            "restart_seconds": engine.restart_seconds,
            "memory_bytes": engine.memory,
            "step_budget": engine.budget,
            "draining": engine.draining,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "engine_pid": engine.pid,
        }

    def _consumed_by_others(self) -> bool:
        """Whether another worker of the model takes its doorbells: ours may have gone there."""
        try:
            reports = self._store.status(self._model).workers
        except StoreUnavailable:
            return False
        recently = DEAF_BEATS * self._store.lease / BEATS_A_LEASE
        heard = [
            report.get("heard_seconds") for name, report in reports.items() if name != self._worker
        ]
        return any(seconds is not None and seconds <= recently for seconds in heard)

    def _state(self, consuming: bool) -> str:
        """The engine's state; busy with jobs; unhealthy when doorbells do not come, or when jobs wait, there
        is room and none is taken. It starts until its first doorbell has come.
        """
        state = self._executor.engine.state.value
        if state != EngineState.READY:
            return state
        if self._stuck >= STUCK_BEATS or not consuming:
            return "unhealthy"
        if self._doorbells.heard_seconds is None:
            return EngineState.STARTING.value
        return "busy" if self._executor.active else state

    def _listen(self) -> None:
        rouse = self._store.keys("rouse", self._worker)
        wake = self._store.keys("wake", self._model)
        control = self._store.keys("control", self._model)
        while not self._stopped.is_set():
            connection: Any = None
            try:
                connection = subscriber(self._store.redis.connection_pool, LISTEN_SECONDS)
                connection.send_command("SUBSCRIBE", rouse, wake, control, check_health=False)
                while not self._stopped.is_set():
                    self._hear(heard(connection, ANSWER_SECONDS), rouse.encode())
            except Exception as error:  # noqa: BLE001 - whatever broke it, the cure is to listen anew
                _log.warning("control channel lost (%s); listening again", type(error).__name__)
                self._stopped.wait(0.5)
            finally:
                if connection is not None:
                    connection.disconnect()

    def _hear(self, message: list[Any], rouse: bytes) -> None:
        if message[0] == b"subscribe":
            # What was said before went unheard.
            self._woken()
            self._now.set()
        if message[0] != b"message":
            return
        word, _, job_id = message[2].decode().partition(" ")
        if message[1] == rouse:
            if word != OVER:
                self._roused()
        elif word == "cancel":
            self._executor.cancel(job_id)
        elif word == "reset":
            self._executor.guard.reset()
            self._woken()
        else:
            self._woken()
