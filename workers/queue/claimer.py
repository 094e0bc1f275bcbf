"""Answers doorbells: claims batches of jobs while the engine has room, until nothing is left.

A drain is one answer to one doorbell. It stands in the store's register while it is at work, so that a new
job notifies one of the drains that wait (pub/sub) instead of ringing again. It leaves the register in the
same script call that has seen the queue empty, so no notification is lost
(tests/workers/test_ring_protocol.py).
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable

from shared.domain.errors import StoreUnavailable
from shared.domain.records import Claimed
from shared.faults import faults
from shared.hooks import Observers
from shared.store.jobs import JobStore
from workers.execution.executor import Executor

SLICE_SECONDS = 300.0
READY_SECONDS = 30.0
IDLE_SECONDS = 2.0
"""How long a drain that has had jobs waits for another one before it ends."""
POLL_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Claimer:
    """Runs drains for one model. `claim_now` is called when jobs wait and it is this worker's turn,
    `look_again` when something else has changed, `room_changed` when jobs have left the engine.

    `ring` pushes a doorbell. `idle_seconds`: see `IDLE_SECONDS`.
    """

    def __init__(
        self,
        store: JobStore,
        executor: Executor,
        model: str,
        worker: str,
        observers: Observers,
        ring: Callable[[], None],
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._store = store
        self._executor = executor
        self._model = model
        self._worker = worker
        self._observers = observers
        self._ring = ring
        self._idle_seconds = idle_seconds
        self._changed = threading.Event()
        self._stopping = threading.Event()
        self._one = threading.Lock()
        self._claiming = threading.Lock()
        """Held by whoever claims, until what was claimed is taken over, so that room is not given away twice;
        and while a drain lets suspects run, signs off or lets go of them.
        """
        self._taken = 0
        self._taken_at = 0.0
        """How many jobs were claimed, and when the last ones were (monotonic seconds)."""
        self._waiting = 0
        """Not 0 when jobs waited at the last look or it filled us, and while one is on its way."""
        self.drain_id = ""

    def look_again(self) -> None:
        self._changed.set()

    def claim_now(self) -> None:
        """Claim now. Ring where no drain is here: it ended without a word, in an outage of Redis.

        The caller's thread claims while the drain's only waits: a job that comes alone waits for no other.
        """
        if self.drain_id and not self._claimed_all():
            self._changed.set()
        elif not self.drain_id:
            self._ring()

    def _claimed_all(self) -> bool:
        """Claim in the drain's place. Whether nothing is left for it to do; its own calls say what failed."""
        if not self._claiming.acquire(blocking=False):
            return False
        try:
            if not self._at_work or self._executor.room() == 0:
                return False
            claimed = self._claim()
            return bool(claimed.claims) and claimed.waiting == 0
        except StoreUnavailable:
            # The drain's own call meets the same, and says so.
            return False
        finally:
            self._claiming.release()

    @property
    def _at_work(self) -> bool:
        return bool(self.drain_id) and not self._stopping.is_set() and self._executor.ready

    def room_changed(self) -> None:
        """Claim again, unless nothing waits: whoever then enqueues a job notifies us."""
        if self._waiting or self._executor.quarantined:
            self._changed.set()

    def stop(self) -> None:
        """Claim nothing more; a running drain returns."""
        self._stopping.set()
        self._changed.set()

    def await_claim(self, timeout: float) -> bool:
        """Wait until no claim is under way, which after `stop` is for good. False when that took longer."""
        if not self._claiming.acquire(timeout=timeout):
            return False
        self._claiming.release()
        return True

    def drain(self) -> int:
        """Answer a doorbell. Returns how many jobs it claimed; none when another drain is at work here."""
        if not self._one.acquire(blocking=False):
            return 0
        try:
            return self._answer()
        finally:
            self._one.release()

    def _answer(self) -> int:
        faults.reach("doorbell_taken")
        self._observers.emit("drain_started", self._model)
        total, until = 0, time.monotonic() + SLICE_SECONDS
        try:
            while self._await_engine():
                self.drain_id = f"{self._worker}/{secrets.token_hex(4)}"
                total += self._claim_until(until)
                self._end_drain()
                if self._executor.ready or time.monotonic() >= until:
                    break
        except StoreUnavailable as error:
            # The register forgets this drain when its time is up; the rescuer rings then.
            _log.warning("drain of %s ends: %s", self._model, error)
        finally:
            self._end_drain()
        return total

    def _end_drain(self) -> None:
        """This drain stands no longer in the register."""
        with self._claiming:
            self.drain_id = ""
            self._executor.release_quarantine()

    def _await_engine(self) -> bool:
        """Wait for the engine before standing in the register, so that doorbells reach other workers;
        also for an engine that was lost, or that this worker's own breaker has to do with.
        """
        until = time.monotonic() + READY_SECONDS
        while not self._executor.ready and not self._stopping.is_set():
            if time.monotonic() >= until:
                return False
            self._changed.clear()
            if not self._executor.ready:
                self._changed.wait(POLL_SECONDS)
        return not self._stopping.is_set()

    def _claim_until(self, until: float) -> int:
        before = self._taken
        idle_since = time.monotonic()
        while self._goes_on(until):
            self._changed.clear()
            with self._claiming:
                # Whoever stops it may have waited for the last claim while this one waited for its turn.
                if self._stopping.is_set():
                    break
                self._executor.advance()
                claimed = self._claim()
            idle_since = max(idle_since, self._taken_at)
            if claimed.claims or self._executor.active:
                idle_since = time.monotonic()
            if claimed.claims and claimed.waiting and self._executor.room():
                continue
            if claimed.pause and claimed.waiting:
                # Parked by the model's breaker. Should the message of its end be lost, we look ourselves.
                self._changed.wait(min(claimed.pause, POLL_SECONDS))
                continue
            if self._executor.active or self._executor.room() == 0:
                self._changed.wait(POLL_SECONDS)
                continue
            # A doorbell that found nothing was one too many: its drain ends at once.
            stays = self._taken > before and self._changed.wait(self._idle_left(idle_since))
            if not stays and self._taken_at <= idle_since and self._signed_off():
                return self._taken - before
        self._signed_off(force=True)
        return self._taken - before

    def _signed_off(self, *, force: bool = False) -> bool:
        """Leave the register, unless jobs wait; `force`: all the same. Whether this drain has left it."""
        if not force:
            faults.reach("before_sign_off")
        with self._claiming:
            done, ring = self._store.sign_off(self._model, self._worker, self.drain_id, force=force)
            if done:
                self.drain_id = ""
        if ring:
            self._ring()
        return done

    def _idle_left(self, idle_since: float) -> float:
        return max(0.0, idle_since + self._idle_seconds - time.monotonic())

    def _goes_on(self, until: float) -> bool:
        return not self._stopping.is_set() and self._executor.ready and time.monotonic() < until

    def _claim(self) -> Claimed:
        """Take as many jobs as there is room for, and ring for an idle worker when others have to wait."""
        self._waiting = 1
        room = self._executor.room()
        began = time.monotonic()
        claimed = self._store.claim(
            self._model,
            room,
            self._worker,
            drain=self.drain_id,
            drain_ttl=self._store.lease,
        )
        # Who is full is not called before others, so it looks for itself when it has room.
        self._waiting = claimed.waiting or int(len(claimed.claims) >= room)
        self._executor.breaker.heard(claimed.pause, claimed.change)
        if claimed.ring:
            self._ring()
        if claimed.claims:
            self._taken += len(claimed.claims)
            self._taken_at = time.monotonic()
            took = self._taken_at - began
            self._observers.emit("batch_claimed", self._model, claimed.claims, took)
            faults.reach("claimed")
            self._executor.run(claimed.claims)
        return claimed
