"""One attempt, from claim to outcome: hand it to the engine, stream its pieces, decide, write the end.

The executor holds every attempt of this worker. Drain threads bring claims, the engine client's thread
brings steps, the keeper and the control listener bring cancels; all state is under one lock, and no
call to Redis or to the engine is made while it is held.
"""

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b

import msgspec

from shared.domain.breaker import BreakerState, Verdict
from shared.domain.catalog import ModelSpec
from shared.domain.errors import PROBLEMS, StoreUnavailable
from shared.domain.records import Claim, Finish, Requeue, Write
from shared.domain.states import JobState
from shared.hooks import Observers
from shared.store.breaker import BreakerPolicy
from shared.store.jobs import JobStore
from workers.engine_host.client import Cause, EngineClient, EngineState, HostOptions
from workers.execution.event_writer import Answer, Attempt, Ended, EventWriter, Said
from workers.execution.quarantine import Quarantine
from workers.execution.refused import Refusal, Writer
from workers.execution.retries import Again, Decision, End, Kind, decide, judge
from workers.execution.transient import transient
from workers.execution.worker_breaker import WorkerBreaker
from workers.host.messages import Cancel, Outcome, Stepped, Submit

LOG_CUT = "log_cut"
"""Why an attempt is given back whose events Redis has forgotten."""

Told = tuple[Claim, str, float, str]
"""What observers hear of an attempt's end: see `Hooks.job_ended`."""

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Executor:
    """Runs claims on the engine host. `changed` is called when there may be more room, `engine_changed` when
    the host's state is another.
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
        host: HostOptions | None = None,
    ) -> None:
        self._store = store
        self._spec = spec
        self._worker = worker
        self._observers = observers
        self._ring = ring
        self._changed = changed
        self._engine_has_changed = engine_changed
        self._lock = threading.Lock()
        self._held: dict[str, Attempt] = {}
        self._quarantine = Quarantine()
        self.taken = 0
        """How many attempts this worker has taken over: it grows while jobs are consumed."""
        self._draw = random.Random().random  # noqa: S311 - jitter
        self._salt_key = secrets.token_bytes(32)
        """For this process alone: nothing that a host keeps of a tenant's outlives its worker."""
        self.guard = WorkerBreaker(
            spec.name, BreakerPolicy.of(spec), observers, lease=2 * spec.limits.run_timeout
        )
        self.scribe = EventWriter(Writer(self._settle).write, self._answered)
        self.engine = EngineClient(spec, self, host)

    def start(self) -> None:
        self.scribe.start()
        self.engine.start()

    def stop(self) -> None:
        self.engine.stop()
        self.scribe.stop()

    # -- what a drain asks

    def room(self) -> int:
        """How many more jobs the engine can take now; 0 while it is not ready."""
        info = self.engine.info
        if info is None or not self.ready or self._quarantine:
            return 0
        if self.guard.state is BreakerState.HALF_OPEN:
            return 0 if self._held else 1
        return max(0, info.capacity - len(self._held))

    @property
    def ready(self) -> bool:
        """Whether jobs may come: the model is loaded, and this worker's own breaker not open."""
        loaded = self.engine.state is EngineState.READY
        return loaded and self.guard.state is not BreakerState.OPEN

    @property
    def active(self) -> int:
        return len(self._held)

    @property
    def quarantined(self) -> bool:
        """Whether attempts wait for the engine to be free of others."""
        return bool(self._quarantine)

    def held(self) -> list[tuple[str, int]]:
        """The (job id, attempt) pairs whose leases are this worker's to renew."""
        with self._lock:
            return [(attempt.claim.id, attempt.claim.attempt) for attempt in self._held.values()]

    def run(self, claims: Sequence[Claim]) -> None:
        """Take claims over. Those under suspicion wait in quarantine, the others go to the engine."""
        clean: list[Attempt] = []
        self._park([claim for claim in claims if claim.crashes], parked=True)
        for claim in claims:
            attempt = Attempt(claim, f"{claim.id}/{claim.attempt}", time.monotonic())
            with self._lock:
                self.taken += 1
                self._held[attempt.ticket] = attempt
                if claim.crashes:
                    self._quarantine.put(attempt)
                else:
                    clean.append(attempt)
            self.guard.begin(attempt.ticket)
            self._observers.emit("job_claimed", claim)
            if claim.estimate_error is not None:
                self._observers.emit("estimate_error", self._spec.name, claim.estimate_error)
        self._submit(clean)
        self.advance()

    def advance(self) -> None:
        """Let the next ones in quarantine run, if the engine is free of others."""
        info = self.engine.info
        if info is None or not self._quarantine:
            return
        with self._lock:
            others = len(self._held) - len(self._quarantine)
            group = [] if others > 0 else self._quarantine.next_group(info.capacity)
        self._park([attempt.claim for attempt in group], parked=False)
        self._submit(group)

    def _park(self, claims: Sequence[Claim], *, parked: bool) -> None:
        """Tell the store who waits in quarantine, so that our death is not charged to them."""
        if not claims:
            return
        attempts = [(claim.id, claim.attempt) for claim in claims]
        try:
            transient()(self._store.park, attempts, parked=parked)
        except StoreUnavailable as error:
            _log.warning("%d jobs could not be marked as waiting: %s", len(claims), error)

    def release_quarantine(self) -> None:
        """Give back those who still wait in quarantine: nobody is there to let them run."""
        with self._lock:
            waiting = self._quarantine.waiting
        for attempt in waiting:
            self._decided(attempt.ticket, "returned")

    def _submit(self, attempts: Sequence[Attempt]) -> None:
        submits: list[Submit] = []
        for attempt in attempts:
            try:
                submits.append(self._prepare(attempt))
                self._observers.emit("job_admitted", attempt.claim)
            except StoreUnavailable as error:
                _log.warning("giving %s back: %s", attempt.ticket, error)
                self._decided(attempt.ticket, "returned")
        if submits and not self.engine.send(submits):
            for submit in submits:
                self._decided(submit.ticket, "returned")

    def _prepare(self, attempt: Attempt) -> Submit:
        """What the engine host gets: the request, the time left, what earlier attempts streamed."""
        claim, limits = attempt.claim, self._spec.limits
        text, token_ids = self._resume(attempt) if claim.attempt > 1 else ("", ())
        left = max(0.0, claim.deadline - (time.monotonic() - attempt.began))
        return Submit(
            ticket=attempt.ticket,
            request=claim.request,
            seconds=min(left, limits.run_timeout),
            limit="expired" if left <= limits.run_timeout else "run_timeout",
            text=text,
            token_ids=token_ids,
            salt=blake2b(claim.tenant.encode(), key=self._salt_key, digest_size=16).hexdigest(),
        )

    def _resume(self, attempt: Attempt) -> tuple[str, tuple[int, ...]]:
        """What the engine continues; a `reset` event where it cannot."""
        text, token_ids, other = transient()(self._store.streamed, attempt.claim.id)
        attempt.resumed = bool(text or other)
        info = self.engine.info
        if info is not None and info.continues and not other:
            attempt.index = len(token_ids)
            return text, token_ids
        if text or other:
            self.scribe.tell(attempt, "reset", _encode({"attempt": attempt.claim.attempt}))
        return "", ()

    def cancel(self, job_id: str) -> None:
        """Ask the engine to let go of a job; its outcome then ends the job."""
        with self._lock:
            tickets = [t for t, attempt in self._held.items() if attempt.claim.id == job_id]
            idle = [ticket for ticket in tickets if self._quarantine.remove(ticket)]
        for ticket in idle:
            self._decided(ticket, "canceled")
        running = [ticket for ticket in tickets if ticket not in idle]
        if running:
            self.engine.send([Cancel(ticket) for ticket in running])

    def renewed(self, held: Sequence[tuple[str, int]], results: Sequence[int]) -> None:
        """What the store said to the renewal of leases: 0 lost, 2 a cancel is waiting."""
        for (job_id, number), result in zip(held, results, strict=True):
            if result == 2:
                self.cancel(job_id)
            elif result == 0:
                with self._lock:
                    attempt = self._held.get(f"{job_id}/{number}")
                if attempt is not None:
                    self._fenced(attempt)

    def give_back(self) -> None:
        """Return every attempt to the queue without charging it; the worker is about to stop.

        Decided before the engine is told: its answer, that it has let go, must find nothing to end.
        """
        with self._lock:
            tickets = list(self._held)
        for ticket in tickets:
            self._decided(ticket, "returned")
        self.engine.send([Cancel(ticket) for ticket in tickets])

    # -- what the engine says (EngineEvents)

    def engine_stepped(self, steps: Sequence[Stepped]) -> None:
        said: list[Said] = []
        ends: list[tuple[Attempt, Finish | Requeue]] = []
        first: list[float] = []
        for step in steps:
            self._observers.emit("engine_stepped", self._spec.name, step)
            for piece in step.pieces:
                attempt = self._held.get(piece.ticket)
                if attempt is None:
                    continue
                attempt.batch_size = max(attempt.batch_size, step.batch_size)
                if attempt.first_token is None and not attempt.resumed:
                    attempt.first_token = _since_created(attempt)
                    first.append(attempt.first_token)
                said.append((attempt, piece))
            for outcome in step.outcomes:
                if (end := self._end(outcome.ticket, outcome.kind, outcome)) is not None:
                    ends.append(end)
        if first:
            self._observers.emit("batch_spoke_first", self._spec.name, first)
        if ends:
            self._changed()
        self.scribe.step(said, ends)

    def engine_lost(self, reason: str, cause: Cause, culprit: str) -> None:
        """Charge the attempts where one may be the cause; tell the breakers of what was not meant."""
        self._observers.emit("engine_lost", self._spec.name, reason)
        with self._lock:
            spared = {attempt.ticket for attempt in self._quarantine.waiting}
            tickets = [ticket for ticket in self._held if ticket not in spared]
            # Who may have done it comes first, for one of them tells the breaker.
            tickets.sort(key=lambda ticket: ticket != culprit)
            suspects = [culprit] if culprit else tickets
            again = (
                len(suspects) == 1 and (one := self._held.get(suspects[0])) and one.claim.crashes
            )
        verdict: Verdict = "lost"
        if cause == "drained":
            verdict = "ignored"
        elif again:
            # A job that has crashed before and does so again, alone, says nothing new of the engine.
            verdict = "collateral"
            self.guard.record(suspects[0], verdict)
        else:
            self.guard.record("", verdict)
            if not tickets:
                self._report_lost()
        for ticket in tickets:
            kind: Kind = "crashed" if cause == "crash" and ticket in suspects else "returned"
            self._decided(ticket, kind, Outcome(ticket, "broke", message=reason), verdict)
            verdict = "ignored" if cause == "drained" else "collateral"
        self._changed()

    def _report_lost(self) -> None:
        """Tell the model's breaker of a host that held nobody; with jobs, their ends tell."""
        try:
            change = self._store.host_lost(self._spec.name, self.guard.policy, self._worker)
        except StoreUnavailable as error:
            _log.info("the lost engine host is not counted for its model: %s", error)
        else:
            self.guard.changed(change)

    def engine_changed(self, state: EngineState, detail: str) -> None:
        self._observers.emit("engine_changed", self._spec.name, state.value, detail)
        self._engine_has_changed()

    # -- ends

    def _decided(
        self,
        ticket: str,
        kind: Kind,
        outcome: Outcome | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        """An attempt ended: write it down."""
        end = self._end(ticket, kind, outcome, verdict)
        if end is not None:
            self.scribe.end(*end)

    def _end(
        self,
        ticket: str,
        kind: Kind,
        outcome: Outcome | None = None,
        verdict: Verdict | None = None,
    ) -> tuple[Attempt, Finish | Requeue] | None:
        """Let go of an attempt that has ended. Returns what is to be written of it, None if it is not held.

        `verdict` is for the model's breaker where it is another than the own one's.
        """
        with self._lock:
            attempt = self._held.pop(ticket, None)
            self._quarantine.remove(ticket)
        if attempt is None:
            return None
        claim = attempt.claim
        code = outcome.code if outcome else ""
        judged = judge(kind, outcome.doubt if outcome else "", repeated=bool(claim.failures))
        known_to_fail = self.guard.open
        self.guard.record(ticket, judged)
        decision = decide(
            kind,
            code=code,
            message=outcome.message if outcome else "",
            failures=claim.failures,
            crashes=claim.crashes,
            max_attempts=self._spec.retries.max_attempts,
            draw=self._draw(),
            breaker_open=known_to_fail,
        )
        state = decision.state.value if isinstance(decision, End) else "retried"
        detail = decision.code if isinstance(decision, End) else decision.reason
        attempt.ended = Ended(state, detail, time.monotonic() - attempt.began)
        return attempt, self._write(attempt, decision, outcome, verdict or judged)

    def _write(
        self, attempt: Attempt, decision: Decision, outcome: Outcome | None, verdict: Verdict
    ) -> Finish | Requeue:
        claim = attempt.claim
        device = claim.device_seconds + (outcome.device_seconds if outcome is not None else 0.0)
        if isinstance(decision, Again):
            return Requeue(
                claim.id,
                claim.attempt,
                decision.reason,
                decision.delay,
                decision.charge,
                device,
                verdict,
            )
        error = _error(decision.code, decision.message) if decision.code else b""
        usage = dict(outcome.usage) if outcome is not None else {}
        if attempt.batch_size:
            usage.setdefault("batch_size", attempt.batch_size)
        document: dict[str, float] = {
            **usage,
            "queue_ms": claim.claimed_ms - claim.created_ms,
            "run_ms": round((time.monotonic() - attempt.began) * 1000, 1),
            "device_seconds": round(device, 6),
            "attempts": claim.attempt,
        }
        if attempt.first_token is not None:
            document["first_token_ms"] = round(attempt.first_token * 1000, 1)
        output = outcome.output if outcome is not None else b""
        return Finish(
            claim.id,
            claim.attempt,
            decision.state,
            output,
            error,
            _encode(document),
            decision.dead,
            verdict,
        )

    def _settle(self, writes: list[Write]) -> list[int]:
        """The scribe's call: the writes, and in the same trip what they say of the model."""
        settled = self._store.commit(writes, self.guard.policy, self._worker)
        self.guard.changed(settled.change)
        return list(settled.results)

    def _answered(self, answers: Sequence[Answer]) -> None:
        """What the store said to writes: 0 fenced, 2 a cancel is waiting, 3 ring, 4 a retry
        that waits for its budget, -1 a gap, and a `Refusal`.

        Only where an attempt's last write was carried out is it known how the attempt ended.
        """
        ends: list[Told] = []
        for attempt, result, last in answers:
            if result == 2:
                self.cancel(attempt.claim.id)
                continue
            if result == 3:
                self._ring()
            elif result == 4:
                self._observers.emit("retry_delayed", self._spec.name)
            if result == Refusal.TOO_LARGE:
                self._too_large(attempt)
            elif result == Refusal.REFUSED:
                self._refused(attempt)
            elif result == -1:
                self._forgotten(attempt)
            elif result == 0:
                self._fenced(attempt)
            elif last and (ended := attempt.ended) is not None:
                ends.append((attempt.claim, ended.state, ended.seconds, ended.detail))
        if ends:
            self._tell(ends)

    def _tell(self, ends: Sequence[Told]) -> None:
        for end in ends:
            self._observers.emit("job_ended", *end)
        self._observers.emit("batch_ended", self._spec.name, ends)

    def _fenced(self, attempt: Attempt) -> None:
        """Another attempt owns the job, or nobody: let go of this one and say so, once."""
        if self._let_go(attempt):
            _log.warning("%s belongs to another attempt now; dropped", attempt.ticket)
            self._tell([(attempt.claim, "fenced", time.monotonic() - attempt.began, "")])

    def _forgotten(self, attempt: Attempt) -> None:
        """Redis lost the end of the job's log: the next attempt continues what is left of it."""
        if self._let_go(attempt):
            _log.warning("Redis lost a part of what %s said; given back", attempt.ticket)
            claim = attempt.claim
            attempt.ended = Ended("retried", LOG_CUT, time.monotonic() - attempt.began)
            used = claim.device_seconds
            back = Requeue(claim.id, claim.attempt, LOG_CUT, device_seconds=used)
            self.scribe.end(attempt, back)

    def _too_large(self, attempt: Attempt) -> None:
        """Redis does not take what the attempt said, and never will: the job ends for that."""
        if not self._let_go(attempt):
            return
        code = "output_too_large"
        attempt.ended = Ended(JobState.FAILED.value, code, time.monotonic() - attempt.began)
        claim = attempt.claim
        error = _error(code, "Redis does not take an output as large as this job's.")
        self.scribe.end(attempt, Finish(claim.id, claim.attempt, JobState.FAILED, error=error))

    def _refused(self, attempt: Attempt) -> None:
        """Redis takes what others say and nothing of this attempt, so it cannot even be given back."""
        if self._let_go(attempt):
            _log.error("%s cannot be written; its lease will run out", attempt.ticket)
            self._tell([(attempt.claim, "fenced", time.monotonic() - attempt.began, "refused")])

    def _let_go(self, attempt: Attempt) -> bool:
        """Drop an attempt and all that it still has to say. False where that was done before."""
        with self._lock:
            self._held.pop(attempt.ticket, None)
            self._quarantine.remove(attempt.ticket)
            before, attempt.fenced = attempt.fenced, True
        self.guard.record(attempt.ticket, "ignored")
        if not before:
            self.scribe.drop(attempt)
            self.engine.send([Cancel(attempt.ticket)])
        self._changed()
        return not before


def _error(code: str, message: str) -> bytes:
    """A job's `error` as JSON."""
    return _encode({"code": code, "message": message, "retryable": PROBLEMS[code].retryable})


def _since_created(attempt: Attempt) -> float:
    """Seconds from a job's creation until now."""
    waited = (attempt.claim.claimed_ms - attempt.claim.created_ms) / 1000
    return waited + time.monotonic() - attempt.began
