"""The host's loop, the only thread that touches the engine; it reads commands and deadlines between steps."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from operator import index
from typing import Literal

import msgspec

from shared.domain.errors import PROBLEMS
from workers.engines.base import Engine, Failed, Finished, Piece, Step, Work
from workers.engines.batching.admission import refused
from workers.engines.batching.budget import Budget
from workers.engines.faults import DeviceLost
from workers.engines.outputs import BadOutput, to_json
from workers.host.blame import Evidence
from workers.host.isolation import Isolation
from workers.host.meter import Meter
from workers.host_protocol.messages import (
    Cancel,
    Command,
    Doubt,
    Outcome,
    PieceOut,
    Stepped,
    Stop,
    Submit,
)

DEADLINE_MARGIN = 0.1
"""Seconds before a job's end, beyond what the last step took, at which waiting for company is over."""
REFUSALS = frozenset({"invalid_input", "prompt_too_long", "output_too_large"})
"""Codes with which an engine that is well ends a job."""
MOST_COUNTED = 2**53
"""Of one job. Whoever reads JSON may know no larger whole number."""


class _Job(msgspec.Struct):
    """What the loop keeps of a job: when its time is up (monotonic), what it is then, what it asked for.

    `said`: the bytes of JSON that it has streamed.
    """

    until: float
    limit: Literal["expired", "run_timeout"]
    request: bytes
    tenant: str
    said: int = 0


class Loop:
    """Applies commands, enforces time limits, steps the engine, meters it, reports what came out.

    `commands` returns all that wait; while there are none it waits for some, as many seconds as it is told
    (None: for ever). `report` takes each `Stepped`. `continues` is what the engine says of itself, `remember`
    is called when its budget has changed. `max_output` bounds the bytes of JSON that a job may answer, its
    stream included; 0 for no bound.
    """

    def __init__(
        self,
        engine: Engine,
        commands: Callable[[float | None], Sequence[Command]],
        report: Callable[[Stepped], None],
        *,
        continues: bool = False,
        remember: Callable[[Budget], None] = lambda _budget: None,
        max_output: int = 0,
    ) -> None:
        self._evidence = Evidence()
        self._engine = Isolation(engine, self._evidence, continues=continues, remember=remember)
        self._commands = commands
        self._report = report
        self._max_output = max_output or sys.maxsize
        self._jobs: dict[str, _Job] = {}
        self._next_limit = float("inf")
        self.meter = Meter()
        self._step_seconds = 0.0

    @property
    def pending(self) -> int:
        return len(self._jobs)

    @property
    def budget(self) -> float | None:
        """What a step of the engine may take now, None where it has no bound."""
        return self._engine.budget

    def run(self) -> None:
        """Serve until a `Stop` comes. Raises `DeviceLost`."""
        while self._serve():
            pass

    def _serve(self) -> bool:
        outcomes: list[Outcome] = []
        for command in self._commands(self._patience()):
            match command:
                case Submit():
                    self._admit(command, outcomes)
                case Cancel():
                    self._cancel(command.ticket, "canceled", outcomes)
                case Stop():
                    return False
        self._enforce_limits(outcomes)
        started = time.perf_counter()
        pieces: list[PieceOut] = []
        batch_size = 0
        if self._engine.pending() and self._batch_delay() <= 0:
            step = self._step()
            self.meter.charge(step, time.perf_counter() - started, self._jobs)
            batch_size = step.batch_size
            self._collect(step, pieces, outcomes)
        if pieces or outcomes:
            step_ms = (time.perf_counter() - started) * 1000
            outcomes = [
                msgspec.structs.replace(end, device_seconds=self.meter.take(end.ticket))
                for end in outcomes
            ]
            self._report(Stepped(pieces, outcomes, batch_size, step_ms))
        return True

    def _patience(self) -> float | None:
        """Seconds to wait for commands before the next step; None while there is nothing to do."""
        return max(0.0, self._batch_delay()) if self._engine.pending() else None

    def _batch_delay(self) -> float:
        """Seconds to wait for company: never so long that a job would end for it."""
        batch_delay = self._engine.batch_delay()
        if batch_delay <= 0:
            return 0.0
        left = self._next_limit - time.monotonic()
        return min(batch_delay, left - self._step_seconds - DEADLINE_MARGIN)

    def _admit(self, submit: Submit, outcomes: list[Outcome]) -> None:
        job = _Job(time.monotonic() + submit.seconds, submit.limit, submit.request, submit.salt)
        try:
            work = Work.of(
                submit.ticket,
                submit.request,
                text=submit.text,
                token_ids=submit.token_ids,
                expires=job.until,
                salt=submit.salt,
                adapter=submit.adapter,
                further=submit.further,
                priority=submit.priority,
                finish_reason=submit.finish_reason,
            )
            self._engine.admit(work)
        except DeviceLost:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the engine raises, the loop lives on
            outcomes.append(_failure(refused(submit.ticket, error)))
        else:
            self._jobs[submit.ticket] = job
            self._next_limit = min(self._next_limit, job.until)

    def _cancel(
        self,
        ticket: str,
        kind: Literal["canceled", "expired", "run_timeout"],
        outcomes: list[Outcome],
    ) -> None:
        if self._jobs.pop(ticket, None) is not None:
            self._engine.cancel(ticket)
            outcomes.append(Outcome(ticket, kind))

    def _enforce_limits(self, outcomes: list[Outcome]) -> None:
        now = time.monotonic()
        if now < self._next_limit:
            return
        for ticket, job in list(self._jobs.items()):
            if job.until <= now:
                self._cancel(ticket, job.limit, outcomes)
        self._next_limit = min((job.until for job in self._jobs.values()), default=float("inf"))

    def _step(self) -> Step:
        started = time.monotonic()
        try:
            return self._engine.step()
        finally:
            self._step_seconds = time.monotonic() - started

    def _collect(self, step: Step, pieces: list[PieceOut], outcomes: list[Outcome]) -> None:
        """Turn what a step brought into reports; whatever cannot be said fails its job alone."""
        broken: list[tuple[_Job, Failed]] = []
        for piece in step.pieces:
            if (job := self._jobs.get(piece.id)) is None:
                continue
            try:
                pieces.append(self._piece(piece, job))
            except BadOutput as error:
                del self._jobs[piece.id]
                self._engine.cancel(piece.id)
                broken.append((job, Failed(piece.id, error.code, error.detail)))
        for outcome in step.outcomes:
            if (job := self._jobs.pop(outcome.id, None)) is None:
                continue
            if isinstance(outcome, Failed):
                broken.append((job, outcome))
                continue
            try:
                outcomes.append(self._finished(outcome))
            except BadOutput as error:
                broken.append((job, Failed(outcome.id, error.code, error.detail)))
        # First what went well: it tells whose fault the rest is.
        if pieces or any(outcome.kind == "finished" for outcome in outcomes):
            self._evidence.well()
        for failed, fault in broken:
            outcomes.append(self._failed(fault, failed))

    def _failed(self, fault: Failed, job: _Job) -> Outcome:
        if fault.code not in PROBLEMS:
            message = (
                f"The engine says {fault.code!r}, which is no code of an error: {fault.message}"
            )
            fault = Failed(fault.id, "engine_error", message)
        if fault.at_admission or fault.code in REFUSALS:
            return _failure(fault)
        doubt = self._evidence.doubt(fault, job.request, job.tenant)
        return _failure(fault, doubt if PROBLEMS[fault.code].retryable else "")

    def _piece(self, piece: Piece, job: _Job) -> PieceOut:
        if piece.of_text:
            try:
                logprobs = None if piece.logprobs is None else to_json(piece.logprobs)[1:-1]
                job.said += len(piece.text.encode()) + len(logprobs or b"")
                said = PieceOut(
                    piece.id,
                    piece.text,
                    tuple(map(index, piece.token_ids)),
                    choice=index(piece.choice),
                    parts=piece.parts,
                    finish_reason=piece.finish_reason,
                    logprobs=logprobs,
                )
            except (TypeError, UnicodeEncodeError) as error:
                raise BadOutput(f"The engine's text cannot be sent: {error}") from None
        else:
            said = PieceOut(piece.id, output=to_json(piece.output))
            job.said += len(said.output)
        self._bound(job.said)
        return said

    def _finished(self, outcome: Finished) -> Outcome:
        output = to_json(outcome.output)
        self._bound(len(output))
        return Outcome(outcome.id, "finished", output, _counts(outcome.usage))

    def _bound(self, size: int) -> None:
        if size > self._max_output:
            raise BadOutput(
                f"The model's output for this job is larger than {self._max_output} bytes"
                " (MAX_OUTPUT_BYTES).",
                code="output_too_large",
            )


def _counts(usage: Mapping[str, int]) -> dict[str, int]:
    """What an engine says of a job, as whole numbers by name. Raises `BadOutput` for anything else."""
    counts = {}
    for name, count in usage.items():
        try:
            counts[str(name)] = index(count)
        except TypeError:
            raise BadOutput(
                f"The engine's usage: {name} must be a whole number, not {count!r}."
            ) from None
        if not 0 <= counts[str(name)] <= MOST_COUNTED:
            raise BadOutput(
                f"The engine's usage: {name} must be from 0 to {MOST_COUNTED}, not {count!r}."
            )
    return counts


def _failure(fault: Failed, doubt: Doubt = "") -> Outcome:
    # A lone surrogate in a user's message must not break the frame that carries it.
    message = fault.message[:2000].encode("utf-8", "replace").decode()
    return Outcome(fault.id, "failed", code=fault.code, message=message, doubt=doubt)
