"""Runs a worker's attempts from claim to outcome: gives them to the engine and decides how they end.

Calls go one way: the queue's threads and the engine client's call the executor, which calls the engine and
the completer, which calls the event writer and the store. What those have to say comes back as values. All
state that threads share is in `Attempts`; no lock is held while Redis or the engine is called.

The file is longer than others so that whatever ends an attempt stands beside `_decide`, through which every
end goes.
"""

import logging
import random
from collections.abc import Callable, Sequence

from shared.domain.breaker import BreakerState, Verdict
from shared.domain.errors import StoreUnavailable
from shared.domain.models.catalog import ModelSpec
from shared.domain.records import Claim
from shared.domain.write_results import LeaseResult
from shared.hooks import Observers
from shared.store.breaker import BreakerPolicy
from shared.store.jobs import JobStore
from workers.engine_host.client import HostOptions
from workers.engine_host.events import Cause, EngineState
from workers.engine_host.shared_host import SharedHost
from workers.execution import outcome as outcomes
from workers.execution.admission import Admission
from workers.execution.attempt import Attempt
from workers.execution.attempts import Attempts
from workers.execution.completer import Completer
from workers.execution.event_writer import AttemptEnding, AttemptPiece
from workers.execution.input_files import InputFiles
from workers.execution.output_files import OutputFiles
from workers.execution.retries import Kind, decide, judge
from workers.execution.worker_breaker import WorkerBreaker
from workers.host_protocol.messages import Cancel, Outcome, Stepped, Submit

_log = logging.getLogger(__name__)


class Executor:
    """`changed` is called when there may be more room, `engine_changed` when the engine host's state is
    another, `ring` when a doorbell is wanted. `host`: the one that it shares, or how its own is to be.
    `inputs`: files that jobs may refer to; `outputs`: files that they may make.
    """

    def __init__(
        self,
        store: JobStore,
        spec: ModelSpec,
        worker: str,
        observers: Observers,
        ring: Callable[[], None],
        changed: Callable[[], None],
        engine_changed: Callable[[], None],
        host: SharedHost | HostOptions | None = None,
        inputs: InputFiles | None = None,
        outputs: OutputFiles | None = None,
    ) -> None:
        self._store = store
        self._outputs = outputs
        self._spec = spec
        self._worker = worker
        self._observers = observers
        self.room_changed = changed
        self._engine_has_changed = engine_changed
        self._attempts = Attempts()
        self._admission = Admission(store, spec.limits, inputs)
        self._draw = random.Random().random  # noqa: S311 - jitter
        self.breaker = WorkerBreaker(
            spec.name, BreakerPolicy.of(spec), observers, lease=2 * spec.limits.run_timeout
        )
        self.engine = SharedHost.of(spec, host).join(spec, self)
        self.completer = Completer(
            store,
            spec.name,
            worker,
            self._attempts,
            self.breaker,
            self.engine,
            observers,
            ring,
            changed,
        )

    def start(self) -> None:
        self.completer.start()
        self.engine.start()

    def stop(self) -> None:
        self.engine.stop()
        self.completer.stop()

    # -- what the queue asks

    def room(self) -> int:
        """How many more jobs the engine can take now; 0 while it is not ready."""
        info = self.engine.info
        if info is None or not self.ready or self._attempts.quarantined or self.engine.reserved:
            return 0
        if self.breaker.state is BreakerState.HALF_OPEN:
            return 0 if self.active else 1
        return self.engine.room(self.active)

    @property
    def ready(self) -> bool:
        """Whether jobs may come: the model is loaded, and this worker's own breaker not open."""
        loaded = self.engine.state is EngineState.READY
        return loaded and self.breaker.state is not BreakerState.OPEN

    @property
    def active(self) -> int:
        return len(self._attempts)

    @property
    def taken(self) -> int:
        """How many attempts this worker has taken over: it grows while jobs are consumed."""
        return self._attempts.taken

    @property
    def quarantined(self) -> bool:
        return self._attempts.quarantined

    def leases(self) -> list[tuple[str, int]]:
        """The (job id, attempt) pairs whose leases are this worker's to renew."""
        return self._attempts.leases()

    # -- claims

    def run(self, claims: Sequence[Claim]) -> None:
        """Take claims over. Those under suspicion wait in quarantine, the others go to the engine."""
        self._admission.park([claim for claim in claims if claim.crashes], parked=True)
        clean: list[Attempt] = []
        for claim in claims:
            attempt = Attempt.of(claim)
            self._attempts.add(attempt)
            if not claim.crashes:
                clean.append(attempt)
            self.breaker.begin(attempt.ticket)
            self._observers.emit("job_claimed", claim)
            if claim.estimate_error is not None:
                self._observers.emit("estimate_error", self._spec.name, claim.estimate_error)
        self._submit(clean)
        self.advance()

    def advance(self) -> None:
        """Let the next ones in quarantine run, if the engine is free of others."""
        info = self.engine.info
        if info is None or not self._attempts.quarantined or self.engine.shared:
            return
        group = self._attempts.next_group(info.capacity)
        self._admission.park([attempt.claim for attempt in group], parked=False)
        self._submit(group, alone=True)

    def release_quarantine(self) -> None:
        """Give back those who still wait in quarantine: nobody is there to let them run."""
        for attempt in self._attempts.waiting():
            self._end(attempt.ticket, "returned")

    def cancel(self, job_id: str) -> None:
        """Ask the engine to let go of a job; its outcome then ends the job."""
        waiting, running = self._attempts.tickets_of(job_id)
        for ticket in waiting:
            self._end(ticket, "canceled")
        if running:
            self.engine.send([Cancel(ticket) for ticket in running])

    def renewed(self, leases: Sequence[tuple[str, int]], results: Sequence[LeaseResult]) -> None:
        """Act on what became of the renewal of leases."""
        for (job_id, number), result in zip(leases, results, strict=True):
            match result:
                case LeaseResult.CANCEL_REQUESTED:
                    self.cancel(job_id)
                case LeaseResult.LOST:
                    if (attempt := self._attempts.of_lease(job_id, number)) is not None:
                        self.completer.fenced(attempt)

    def give_back(self) -> None:
        """Return every attempt to the queue without charging it; the worker is about to stop.

        Decided before the engine is told: its answer, that it has let go, must find nothing to end.
        """
        for ticket in (tickets := self._attempts.tickets()):
            self._end(ticket, "returned")
        self.engine.send([Cancel(ticket) for ticket in tickets])

    def _submit(self, attempts: Sequence[Attempt], *, alone: bool = False) -> None:
        info = self.engine.info
        submits: list[Submit] = []
        for attempt in attempts:
            try:
                submit, reset = self._admission.prepare(
                    attempt, continues=info is not None and info.continues
                )
            except StoreUnavailable as error:
                _log.warning("giving %s back: %s", attempt.ticket, error)
                self._end(attempt.ticket, "returned")
                continue
            if reset:
                self.completer.event(attempt, "reset", reset)
            submits.append(submit)
            self._observers.emit("job_admitted", attempt.claim)
        if submits and not self.engine.send(submits, alone=alone):
            for submit in submits:
                self._end(submit.ticket, "returned")

    # -- what the engine says (EngineEvents)

    def engine_stepped(self, steps: Sequence[Stepped]) -> None:
        pieces: list[AttemptPiece] = []
        ends: list[AttemptEnding] = []
        first: list[float] = []
        for step in steps:
            self._observers.emit("engine_stepped", self._spec.name, step)
            for piece in step.pieces:
                attempt = self._attempts.get(piece.ticket)
                if attempt is None:
                    continue
                attempt.batch_size = max(attempt.batch_size, step.batch_size)
                if attempt.first_token is None and not attempt.resumed:
                    first.append(attempt.note_first_token())
                pieces.append((attempt, piece))
            for outcome in map(self._with_files, step.outcomes):
                if (end := self._decide(outcome.ticket, outcome.kind, outcome)) is not None:
                    ends.append(end)
        if first:
            self._observers.emit("batch_spoke_first", self._spec.name, first)
        if ends:
            self.room_changed()
        self.completer.step(pieces, ends)

    def engine_lost(self, reason: str, cause: Cause, culprit: str) -> None:
        """Charge the attempts where one may be the cause; tell the breakers of what was not meant."""
        self._observers.emit("engine_lost", self._spec.name, reason)
        # Who may have done it comes first, for one of them tells the breaker.
        tickets = sorted(self._attempts.in_engine(), key=lambda ticket: ticket != culprit)
        suspects = [culprit] if culprit else tickets
        verdict: Verdict = "lost"
        if cause == "drained":
            verdict = "ignored"
        elif self._attempts.crashed_before(suspects):
            # A job that crashes again, alone, says nothing new of the engine.
            verdict = "collateral"
            self.breaker.record(suspects[0], verdict)
        else:
            self.breaker.record("", verdict)
            if not tickets:
                self._report_lost()
        for ticket in tickets:
            kind: Kind = "crashed" if cause == "crash" and ticket in suspects else "returned"
            self._end(ticket, kind, Outcome(ticket, "failed", message=reason), verdict)
            verdict = "ignored" if cause == "drained" else "collateral"
        self.room_changed()

    def engine_changed(self, state: EngineState, detail: str) -> None:
        self._observers.emit("engine_changed", self._spec.name, state.value, detail)
        self._engine_has_changed()

    def _report_lost(self) -> None:
        """Tell the model's breaker of a host that held nobody; with jobs, their ends tell."""
        try:
            change = self._store.host_lost(self._spec.name, self.breaker.policy, self._worker)
        except StoreUnavailable as error:
            _log.info("the lost engine host is not counted for its model: %s", error)
        else:
            self.breaker.changed(change)

    # -- ends

    def _with_files(self, outcome: Outcome) -> Outcome:
        """An outcome with its files stored: while the attempt is still held, so that its lease goes on."""
        attempt = self._attempts.get(outcome.ticket) if self._outputs is not None else None
        if self._outputs is None or attempt is None:
            return outcome
        return self._outputs.stored(attempt.claim, outcome)

    def _end(
        self,
        ticket: str,
        kind: Kind,
        outcome: Outcome | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        """An attempt ended: have that written."""
        end = self._decide(ticket, kind, outcome, verdict)
        if end is not None:
            self.completer.end(*end)

    def _decide(
        self,
        ticket: str,
        kind: Kind,
        outcome: Outcome | None = None,
        verdict: Verdict | None = None,
    ) -> AttemptEnding | None:
        """Let go of an attempt that has ended. Returns what is to be written of it, None if it is not held.

        `verdict` is for the model's breaker where it is another than the own one's.
        """
        attempt = self._attempts.remove(ticket)
        if attempt is None:
            return None
        claim = attempt.claim
        judged = judge(kind, outcome.doubt if outcome else "", repeated=bool(claim.failures))
        known_to_fail = self.breaker.open
        self.breaker.record(ticket, judged)
        decision = decide(
            kind,
            code=outcome.code if outcome else "",
            message=outcome.message if outcome else "",
            failures=claim.failures,
            crashes=claim.crashes,
            max_attempts=self._spec.retries.max_attempts,
            draw=self._draw(),
            breaker_open=known_to_fail,
        )
        attempt.ends(*outcomes.state_and_detail(decision))
        return attempt, outcomes.write_of(attempt, decision, outcome, verdict or judged)
