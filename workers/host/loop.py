"""The host's loop: the only thread that touches the engine. Commands and deadlines are read between steps."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from operator import index

import msgspec

from shared.errors import InputRefused
from workers.engines.base import Broke, Engine, Piece, Step, Work
from workers.engines.budget import Budget
from workers.host.isolation import Isolation
from workers.host.messages import (
    Cancel,
    Command,
    Outcome,
    PieceOut,
    Stepped,
    Stop,
    Submit,
)
from workers.host.meter import Meter

DEADLINE_MARGIN = 0.1
"""Seconds before a job's end, beyond what the last step took, at which waiting for company is over."""
MOST_COUNTED = 2**53
"""Of one job. Whoever reads JSON may know no larger whole number."""
UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct):
    """A job's request as the API stored it."""

    content: object
    params: dict[str, object]
    seed: int


_decode = msgspec.json.Decoder(Request).decode


class _Limit(msgspec.Struct, frozen=True):
    at: float
    kind: str


class Loop:
    """Applies commands, enforces time limits, steps the engine, meters it, reports what came out.

    `commands` returns all that wait; while there are none it waits for some, as many seconds as it is told
    (None: for ever). `report` takes each `Stepped`; `step_started` is the monotonic time of the step now
    running, 0 between steps, for the watchdog. `continues` is what the engine says of itself, `remember` is
    called when its budget has changed.
    """

    def __init__(
        self,
        engine: Engine,
        commands: Callable[[float | None], Sequence[Command]],
        report: Callable[[Stepped], None],
        *,
        continues: bool = False,
        remember: Callable[[Budget], None] = lambda _budget: None,
    ) -> None:
        self._engine = Isolation(engine, continues=continues, remember=remember)
        self._commands = commands
        self._report = report
        self._limits: dict[str, _Limit] = {}
        self._next_limit = float("inf")
        self.meter = Meter()
        self.step_started = 0.0
        self._step_seconds = 0.0

    @property
    def pending(self) -> int:
        return len(self._limits)

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
        if self._engine.pending() and self._linger() <= 0:
            step = self._step()
            self.meter.charge(step, time.perf_counter() - started, self._limits)
            batch_size = step.batch_size
            self._collect(step, pieces, outcomes)
        if pieces or outcomes:
            step_ms = (time.perf_counter() - started) * 1000
            outcomes = [
                msgspec.structs.replace(end, device_seconds=self.meter.settle(end.ticket))
                for end in outcomes
            ]
            self._report(Stepped(pieces, outcomes, batch_size, step_ms))
        return True

    def _patience(self) -> float | None:
        """Seconds to wait for commands before the next step; None while there is nothing to do."""
        return max(0.0, self._linger()) if self._engine.pending() else None

    def _linger(self) -> float:
        """Seconds to wait for company: never so long that a job would end for it."""
        linger = self._engine.linger()
        if linger <= 0:
            return 0.0
        left = self._next_limit - time.monotonic()
        return min(linger, left - self._step_seconds - DEADLINE_MARGIN)

    def _admit(self, submit: Submit, outcomes: list[Outcome]) -> None:
        limit = _Limit(time.monotonic() + submit.seconds, submit.limit)
        try:
            request = _decode(submit.request)
            work = Work(
                id=submit.ticket,
                content=request.content,
                params=request.params,
                seed=request.seed,
                text=submit.text,
                token_ids=submit.token_ids,
                expires=limit.at,
                salt=submit.salt,
            )
            self._engine.admit(work)
        except InputRefused as error:
            outcomes.append(_broke(submit.ticket, error.code, error.detail))
        except Exception as error:  # noqa: BLE001 - whatever the engine raises, the loop lives on
            _log.exception("admitting %s failed", submit.ticket)
            outcomes.append(_broke(submit.ticket, "engine_error", type(error).__name__))
        else:
            self._limits[submit.ticket] = limit
            self._next_limit = min(self._next_limit, limit.at)

    def _cancel(self, ticket: str, kind: str, outcomes: list[Outcome]) -> None:
        if self._limits.pop(ticket, None) is not None:
            self._engine.cancel(ticket)
            outcomes.append(Outcome(ticket, kind))  # type: ignore[arg-type]

    def _enforce_limits(self, outcomes: list[Outcome]) -> None:
        now = time.monotonic()
        if now < self._next_limit:
            return
        for ticket, limit in list(self._limits.items()):
            if limit.at <= now:
                self._cancel(ticket, limit.kind, outcomes)
        self._next_limit = min((limit.at for limit in self._limits.values()), default=float("inf"))

    def _step(self) -> Step:
        self.step_started = time.monotonic()
        try:
            return self._engine.step()
        finally:
            self._step_seconds = time.monotonic() - self.step_started
            self.step_started = 0.0

    def _collect(self, step: Step, pieces: list[PieceOut], outcomes: list[Outcome]) -> None:
        for piece in step.pieces:
            if piece.id not in self._limits:
                continue
            try:
                pieces.append(_piece(piece))
            except UNENCODABLE as error:
                del self._limits[piece.id]
                self._engine.cancel(piece.id)
                message = f"The model's output is not JSON: {error}"
                outcomes.append(_broke(piece.id, "engine_error", message))
        for outcome in step.outcomes:
            if self._limits.pop(outcome.id, None) is None:
                continue
            if isinstance(outcome, Broke):
                outcomes.append(_broke(outcome.id, outcome.code, outcome.message))
                continue
            try:
                output = _encode(outcome.output)
            except UNENCODABLE as error:
                message = f"The model's output is not JSON: {error}"
                outcomes.append(_broke(outcome.id, "engine_error", message))
                continue
            try:
                usage = _counts(outcome.usage)
            except UNENCODABLE as error:
                outcomes.append(_broke(outcome.id, "engine_error", f"The engine's usage: {error}"))
                continue
            outcomes.append(Outcome(outcome.id, "finished", output, usage))


def _counts(usage: Mapping[str, int]) -> dict[str, int]:
    """What an engine says of a job, as whole numbers by name. Raises `ValueError` for anything else."""
    counts = {}
    for name, count in usage.items():
        try:
            counts[str(name)] = index(count)
        except TypeError:
            raise ValueError(f"{name} must be a whole number, not {count!r}.") from None
        if not 0 <= counts[str(name)] <= MOST_COUNTED:
            raise ValueError(f"{name} must be from 0 to {MOST_COUNTED}, not {count!r}.")
    return counts


def _piece(piece: Piece) -> PieceOut:
    if piece.text:
        return PieceOut(piece.id, piece.text, piece.token_ids)
    return PieceOut(piece.id, output=_encode(piece.output))


def _broke(ticket: str, code: str, message: str) -> Outcome:
    # A lone surrogate in a user's message must not break the frame that carries it.
    told = message[:2000].encode("utf-8", "replace").decode()
    return Outcome(ticket, "broke", code=code, message=told)
