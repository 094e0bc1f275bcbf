"""Writes events and ends of attempts: one thread at a time, all that gathered in one round trip.

While a write is on its way the pieces behind it gather, and pieces of one attempt merge into one event,
so a slow Redis means fewer, larger events. Nothing is dropped while Redis is away: the same writes,
with the same event ids, go out again until they are answered; the fence and the ids make repeats
harmless. So what Redis has answered and lost since, killed during a disk sync or replaced by its replica,
is said again under the same ids: no reader notices.

The writer calls nobody but `write`. What Redis said comes back as a value, to whoever had it written.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_when_event_set,
    wait_random_exponential,
)

from shared.domain.errors import StoreUnavailable
from shared.domain.records import Append, Finish, Requeue, Write
from shared.domain.write_results import WriteResult
from shared.faults import faults
from workers.execution.attempt import Attempt
from workers.execution.pending_events import AttemptWrite, PendingEvents, writes_of
from workers.execution.refused import Refusal, Result
from workers.host_protocol.messages import PieceOut

PENDING_BOUND = 20_000
LOGGED_EVERY = 120
"""Tries, half a second apart on average."""

AttemptPiece = tuple[Attempt, PieceOut]
AttemptEnding = tuple[Attempt, Finish | Requeue]

_log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What became of a write; `last`: it was the attempt's last one."""

    attempt: Attempt
    result: Result
    last: bool


class EventWriter:
    """`step`, `event` and `end` take down what is to be written; `step` and `turns` write it.

    What a step brings is written by the thread that brings it, which spares a wake-up: once, and if no other
    write is under way. What Redis does not answer, and what gathers meanwhile, the thread in `turns` writes.

    Both give the answers for every attempt whose write was its last or was not simply done. Until the
    receiver is through with them nothing else is written, so what it drops or ends because of them comes
    before the attempt's next write.

    `write` carries out writes and raises `StoreUnavailable` where they must be repeated.
    """

    def __init__(self, write: Callable[[list[Write]], Sequence[Result]]) -> None:
        self._carry_out = write
        self._pending: dict[Attempt, PendingEvents] = {}
        self._unanswered: list[AttemptWrite] = []
        """What the thread that brought it could not write."""
        self._writing = False
        """Whether somebody has taken what was pending, and is not through with the answers yet."""
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._written = threading.Condition(self._lock)
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End `turns`; what could not be written by now is left to leases and the rescuer."""
        self._stopped.set()
        with self._lock:
            self._work.notify()
            self._written.notify_all()

    # -- what is to be written

    @contextmanager
    def step(
        self, pieces: Sequence[AttemptPiece], ends: Sequence[AttemptEnding]
    ) -> Iterator[Sequence[Answer]]:
        """Take down what steps of the engine brought, and write it: it leaves in one write.

        Takes as long as one call to Redis. Waits while too much is unwritten, which holds the engine back.
        Gives no answers where another thread is writing or Redis is away: `turns` gives them then.
        """
        batch = self._take_down(pieces, ends)
        writes = _writes(batch)
        answers: Sequence[Answer] = ()
        if writes:
            try:
                answers = self._write(writes)
            except StoreUnavailable:
                with self._lock:
                    self._unanswered = writes
                    self._work.notify()
                writes = []
        try:
            yield answers
        finally:
            if writes:
                self._end_turn()

    def event(self, attempt: Attempt, kind: str, data: bytes) -> None:
        """Have an event of this kind written; `data` is JSON."""
        with self._lock:
            self._await_room()
            self._pending.setdefault(attempt, PendingEvents()).add_event(attempt, kind, data)
            self._work.notify()

    def end(self, attempt: Attempt, end: Finish | Requeue) -> None:
        """End an attempt, after all that it said."""
        with self._lock:
            self._pending.setdefault(attempt, PendingEvents()).end = end
            self._work.notify()

    def drop(self, attempt: Attempt) -> None:
        """Forget what an attempt still had to say: it is fenced."""
        with self._lock:
            self._pending.pop(attempt, None)

    def flush(self, timeout: float) -> bool:
        """Wait until all is written. False when that took longer than `timeout` seconds."""
        with self._lock:
            return self._written.wait_for(
                lambda: not self._pending and not self._writing, timeout=timeout
            )

    # -- writing: one thread at a time

    def turns(self) -> Iterator[Sequence[Answer]]:
        """For one thread: what Redis said to each write, until `stop`. Waits for something to write, and
        for Redis.
        """
        while (writes := self._next()) and (
            answers := self._write_until_answered(writes)
        ) is not None:
            yield answers
            self._end_turn()

    def _take_down(
        self, pieces: Sequence[AttemptPiece], ends: Sequence[AttemptEnding]
    ) -> dict[Attempt, PendingEvents]:
        """Take what is pending with it, to write it; nothing where another thread is writing."""
        with self._lock:
            self._await_room()
            for attempt, piece in pieces:
                self._pending.setdefault(attempt, PendingEvents()).add_piece(attempt, piece)
            for attempt, end in ends:
                self._pending.setdefault(attempt, PendingEvents()).end = end
            return {} if self._writing or not self._pending else self._take()

    def _await_room(self) -> None:
        """Under the lock: wait while too much is unwritten."""
        self._written.wait_for(lambda: len(self._pending) < PENDING_BOUND or self._stopped.is_set())

    def _take(self) -> dict[Attempt, PendingEvents]:
        """Under the lock: take all that is pending. `_end_turn` must follow."""
        batch, self._pending = self._pending, {}
        self._writing = True
        self._written.notify_all()
        return batch

    def _end_turn(self) -> None:
        with self._lock:
            self._writing = False
            if self._pending:
                self._work.notify()
            self._written.notify_all()

    def _next(self) -> list[AttemptWrite]:
        """Wait for something to write. Nothing once the writer is stopped."""
        with self._lock:
            self._work.wait_for(
                lambda: self._unanswered or self._may_take() or self._stopped.is_set()
            )
            if self._unanswered:
                writes, self._unanswered = self._unanswered, []
                return writes
            batch = self._take() if self._may_take() else {}
        return _writes(batch)

    def _may_take(self) -> bool:
        return bool(self._pending) and not self._writing

    def _write(self, writes: list[AttemptWrite]) -> list[Answer]:
        """Write, and say what Redis said. Raises `StoreUnavailable` where it said nothing."""
        results = self._say_again(writes, self._call(writes))
        if _has_end(writes):
            faults.reach("after_finish")
        answers = [
            Answer(attempt, result, not isinstance(write, Append))
            for (attempt, write), result in results
        ]
        return [
            answer for answer in answers if answer.last or answer.result is not WriteResult.DONE
        ]

    def _say_again(
        self, writes: list[AttemptWrite], results: list[tuple[AttemptWrite, Result]]
    ) -> list[tuple[AttemptWrite, Result]]:
        """Where Redis has forgotten events, write all that is remembered of their attempts again."""
        cut = dict.fromkeys(
            attempt for (attempt, _), result in results if result is WriteResult.MISSING_EVENT
        )
        if not cut:
            return results
        again: list[AttemptWrite] = [
            (attempt, append) for attempt in cut for append in attempt.written
        ]
        again += [write for write in writes if write[0] in cut and not isinstance(write[1], Append)]
        kept = [(write, result) for write, result in results if write[0] not in cut]
        return kept + self._call(again)

    def _call(self, writes: list[AttemptWrite]) -> list[tuple[AttemptWrite, Result]]:
        try:
            results: Sequence[Result] = self._carry_out([write for _, write in writes])
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001 - the thread must live, for every job of this worker
            _log.exception("%d writes failed and are given up", len(writes))
            results = [Refusal.REFUSED] * len(writes)
        return list(zip(writes, results, strict=True))

    def _write_until_answered(self, writes: list[AttemptWrite]) -> list[Answer] | None:
        """Write until Redis answers. None when the writer is stopped before."""
        for trial in Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            stop=stop_when_event_set(self._stopped),
            before_sleep=lambda state: _log_wait(state, len(writes)),
            retry_error_callback=lambda _: None,
        ):
            with trial:
                return self._write(writes)
        return None


def _log_wait(state: RetryCallState, writes: int) -> None:
    """Warn at first, and about once a minute for as long as it lasts."""
    if state.attempt_number % LOGGED_EVERY == 1 and state.outcome is not None:
        _log.warning("%d writes wait: %s", writes, state.outcome.exception())


def _has_end(writes: Sequence[AttemptWrite]) -> bool:
    return any(not isinstance(write, Append) for _, write in writes)


def _writes(batch: dict[Attempt, PendingEvents]) -> list[AttemptWrite]:
    writes = writes_of(batch)
    if writes:
        faults.reach("before_finish" if _has_end(writes) else "mid_append")
    return writes
