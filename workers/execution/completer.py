"""Has a worker's attempts written, and acts on what the store answers: ended, fenced, canceled.

Redis may refuse or forget what one attempt says. That attempt is let go of, and the others go on.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from shared.domain.records import Claim, Finish, Requeue, Write
from shared.domain.states import JobState
from shared.domain.write_results import WriteResult
from shared.hooks import Observers
from shared.store.jobs import JobStore
from workers.engine_host.shared_host import HostMember
from workers.execution.attempt import Attempt
from workers.execution.attempts import Attempts
from workers.execution.event_writer import Answer, AttemptEnding, AttemptPiece, EventWriter
from workers.execution.outcome import LOG_CUT, log_cut, output_too_large
from workers.execution.refused import Refusal, Writer
from workers.execution.worker_breaker import WorkerBreaker
from workers.host_protocol.messages import Cancel

JobEnd = tuple[Claim, str, float, str]
"""What observers hear of an attempt's end: see `Hooks.job_ended`."""

CARRIED_OUT = frozenset({WriteResult.DONE, WriteResult.SHOULD_NOTIFY, WriteResult.RETRY_DELAYED})

_log = logging.getLogger(__name__)


class Completer:
    """Writes for one worker. `step` writes at once, in the caller's thread; what else there is to write, and
    what Redis did not answer, a thread of the completer's own writes.

    `ring` is called when a doorbell is wanted, `changed` when there may be more room in the engine.
    """

    def __init__(
        self,
        store: JobStore,
        model: str,
        worker: str,
        attempts: Attempts,
        breaker: WorkerBreaker,
        engine: HostMember,
        observers: Observers,
        ring: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._model = model
        self._worker = worker
        self._attempts = attempts
        self._breaker = breaker
        self._engine = engine
        self._observers = observers
        self._ring = ring
        self._changed = changed
        self._writer = EventWriter(Writer(self._commit).write)
        self._thread = threading.Thread(target=self._run, name="event-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What could not be written by now is left to leases and the rescuer."""
        self._writer.stop()
        self._thread.join(timeout=5)

    def step(self, pieces: Sequence[AttemptPiece], ends: Sequence[AttemptEnding]) -> None:
        """Write what steps of the engine brought. Takes as long as a call to Redis, longer while too much is
        unwritten.
        """
        with self._writer.step(pieces, ends) as answers:
            self._act_on(answers)

    def event(self, attempt: Attempt, kind: str, data: bytes) -> None:
        """Have an event of this kind written; `data` is JSON."""
        self._writer.event(attempt, kind, data)

    def end(self, attempt: Attempt, end: Finish | Requeue) -> None:
        """Have an attempt's end written, after all that it said."""
        self._writer.end(attempt, end)

    def flush(self, timeout: float) -> bool:
        """Wait until all is written. False when that took longer than `timeout` seconds."""
        return self._writer.flush(timeout)

    def fenced(self, attempt: Attempt) -> None:
        """Another attempt owns the job, or nobody: let go of this one and say so, once."""
        if self._let_go(attempt):
            _log.warning("%s belongs to another attempt now; dropped", attempt.ticket)
            self._report([(attempt.claim, "fenced", attempt.seconds, "")])

    def _run(self) -> None:
        for answers in self._writer.turns():
            self._act_on(answers)

    def _commit(self, writes: list[Write]) -> list[WriteResult]:
        """The writes, and in the same trip what they say of the model."""
        committed = self._store.commit(writes, self._breaker.policy, self._worker)
        self._breaker.changed(committed.change)
        return committed.results

    # -- what the store said

    def _act_on(self, answers: Sequence[Answer]) -> None:
        """Only where an attempt's last write was carried out is it known how the attempt ended."""
        ends: list[JobEnd] = []
        for attempt, result, last in answers:
            match result:
                case WriteResult.CANCEL_REQUESTED:
                    self._cancel(attempt)
                case Refusal.TOO_LARGE:
                    self._too_large(attempt)
                case Refusal.REFUSED:
                    self._refused(attempt)
                case WriteResult.MISSING_EVENT:
                    self._forgotten(attempt)
                case WriteResult.FENCED:
                    self.fenced(attempt)
                case WriteResult.SHOULD_NOTIFY:
                    self._ring()
                case WriteResult.RETRY_DELAYED:
                    self._observers.emit("retry_delayed", self._model)
            if last and result in CARRIED_OUT and (end := attempt.end) is not None:
                ends.append((attempt.claim, end.state, end.seconds, end.detail))
        self._report(ends)

    def _report(self, ends: Sequence[JobEnd]) -> None:
        for end in ends:
            self._observers.emit("job_ended", *end)
        if ends:
            self._observers.emit("batch_ended", self._model, ends)

    def _cancel(self, attempt: Attempt) -> None:
        """Ask the engine to let go of an attempt; its outcome then ends the job."""
        if self._attempts.get(attempt.ticket) is not None:
            self._engine.send([Cancel(attempt.ticket)])

    def _forgotten(self, attempt: Attempt) -> None:
        """Redis lost the end of the job's log: the next attempt continues what is left of it."""
        if self._let_go(attempt):
            _log.warning("Redis lost a part of what %s said; given back", attempt.ticket)
            attempt.ends("retried", LOG_CUT)
            self._writer.end(attempt, log_cut(attempt.claim))

    def _too_large(self, attempt: Attempt) -> None:
        """Redis does not take what the attempt said, and never will: the job ends for that."""
        if self._let_go(attempt):
            attempt.ends(JobState.FAILED.value, "output_too_large")
            self._writer.end(attempt, output_too_large(attempt.claim))

    def _refused(self, attempt: Attempt) -> None:
        """Redis takes what others say and nothing of this attempt, so it cannot even be given back."""
        if self._let_go(attempt):
            _log.error("%s cannot be written; its lease will run out", attempt.ticket)
            self._report([(attempt.claim, "fenced", attempt.seconds, "refused")])

    def _let_go(self, attempt: Attempt) -> bool:
        """Drop an attempt and all that it still has to say. False where that was done before."""
        first = self._attempts.fence(attempt)
        self._breaker.record(attempt.ticket, "ignored")
        if first:
            self._writer.drop(attempt)
            self._engine.send([Cancel(attempt.ticket)])
        self._changed()
        return first
