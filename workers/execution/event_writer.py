"""Writes what attempts say and how they end: one thread at a time, all that gathered in one round trip.

While a write is on its way the pieces behind it gather, and pieces of one attempt merge into one event,
so a slow Redis means fewer, larger events. Nothing is dropped while Redis is away: the same writes,
with the same event ids, go out again until they are answered; the fence and the ids make repeats
harmless. So what Redis has answered and lost since, killed during a disk sync or replaced by its replica,
is said again under the same ids: no reader notices.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_when_event_set,
    wait_random_exponential,
)

from shared.domain.errors import StoreUnavailable
from shared.domain.records import Append, Claim, Finish, Requeue, Write
from shared.faults import faults
from workers.execution.refused import Refusal
from workers.host.messages import PieceOut

PENDING_BOUND = 20_000
SAID_EVERY = 120
"""Tries, half a second apart on average."""
REMEMBERED = 1024
"""Events of an attempt that are kept, should Redis forget them after it has answered."""

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Ended(msgspec.Struct, frozen=True):
    """How an attempt ended, as far as its worker knows: a JobState or `retried`, why, after how long."""

    state: str
    detail: str
    seconds: float


class Attempt(msgspec.Struct, eq=False):
    """A claimed attempt in this worker's hands. `seq` and `index` are what its next event gets.

    `resumed`: earlier attempts have streamed already. `first_token`: seconds from the job's creation to
    the first piece of its output. `said`: its last events, as they were written.
    """

    claim: Claim
    ticket: str
    began: float
    seq: int = 1
    index: int = 0
    batch_size: int = 0
    resumed: bool = False
    first_token: float | None = None
    ended: Ended | None = None
    fenced: bool = False
    said: deque[Append] = msgspec.field(default_factory=lambda: deque(maxlen=REMEMBERED))


class _Pending(msgspec.Struct):
    text: list[str] = []
    token_ids: list[int] = []
    events: list[tuple[str, bytes]] = []
    end: Finish | Requeue | None = None


Said = tuple[Attempt, PieceOut]
"""A piece of an attempt's output."""
PendingWrite = tuple[Attempt, Write]
"""A write, and whose it is."""


Answer = tuple[Attempt, int, bool]
"""What the store said to a write of an attempt, and whether it was its last."""


class EventWriter:
    """`step`, `tell` and `end` take down, a thread writes; `answered` learns what Redis said.

    What steps bring is written by the thread that brings it, which spares a wake-up: once, and if no other
    write is under way. What Redis does not answer, and what gathers meanwhile, the scribe's thread writes.

    `write` carries out writes and raises `StoreUnavailable` where they must be repeated.
    `answered` gets the numbers of `JobStore.write` or a `Refusal`, for every attempt whose write was fenced
    or was its last, or for which a cancel is waiting; those of one write together.
    """

    def __init__(
        self,
        write: Callable[[list[Write]], list[int]],
        answered: Callable[[Sequence[Answer]], None],
    ) -> None:
        self._carry_out = write
        self._answered = answered
        self._pending: dict[Attempt, _Pending] = {}
        self._unanswered: list[PendingWrite] = []
        """What the thread that brought it could not write."""
        self._writing = False
        """Whether somebody has taken what was pending, and has not had an answer yet."""
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._written = threading.Condition(self._lock)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scribe", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what could not be written by now is left to leases and the rescuer."""
        self._stopped.set()
        with self._lock:
            self._work.notify()
            self._written.notify_all()
        self._thread.join(timeout=5)

    def step(self, said: Sequence[Said], ended: Sequence[tuple[Attempt, Finish | Requeue]]) -> None:
        """Take down what steps of the engine brought, and write it: it leaves in one write.

        Takes as long as one call to Redis. Waits while too much is unwritten, which holds the engine back.
        """
        with self._lock:
            self._bound()
            for attempt, piece in said:
                pending = self._pending.setdefault(attempt, _Pending())
                if piece.text:
                    pending.text.append(piece.text)
                    pending.token_ids += piece.token_ids
                else:
                    _flush_text(attempt, pending)
                    pending.events.append(("output", piece.output))
            for attempt, end in ended:
                self._pending.setdefault(attempt, _Pending()).end = end
            if self._writing or not self._pending:
                return
            batch = self._taken()
        deeds = _begun(batch)
        try:
            self._try(deeds)
        except StoreUnavailable:
            with self._lock:
                self._unanswered = deeds
                self._work.notify()
        else:
            self._over()

    def tell(self, attempt: Attempt, kind: str, data: bytes) -> None:
        """Send a `reset` event; `data` is JSON."""
        with self._lock:
            self._bound()
            pending = self._pending.setdefault(attempt, _Pending())
            _flush_text(attempt, pending)
            pending.events.append((kind, data))
            self._work.notify()

    def end(self, attempt: Attempt, end: Finish | Requeue) -> None:
        """End an attempt, after all that it said."""
        with self._lock:
            self._pending.setdefault(attempt, _Pending()).end = end
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

    def _bound(self) -> None:
        self._written.wait_for(lambda: len(self._pending) < PENDING_BOUND or self._stopped.is_set())

    # -- writing: one thread at a time

    def _taken(self) -> dict[Attempt, _Pending]:
        """Under the lock: take all that is pending, to write it."""
        batch, self._pending = self._pending, {}
        self._writing = True
        self._written.notify_all()
        return batch

    def _over(self) -> None:
        """What was taken is written."""
        with self._lock:
            self._writing = False
            if self._pending:
                self._work.notify()
            self._written.notify_all()

    def _try(self, deeds: list[PendingWrite]) -> None:
        """Write, and tell what Redis said. Raises `StoreUnavailable` where it said nothing."""
        results = self._carried_out(deeds)
        if _ends(deeds):
            faults.reach("after_finish")
        answers = [
            (attempt, result, not isinstance(write, Append)) for (attempt, write), result in results
        ]
        self._answered([answer for answer in answers if answer[2] or answer[1] != 1])

    def _carried_out(self, deeds: list[PendingWrite]) -> list[tuple[PendingWrite, int]]:
        """Write, and where Redis has forgotten events all that is remembered of their attempts again."""
        answered = self._write(deeds)
        cut = dict.fromkeys(attempt for (attempt, _), result in answered if result == -1)
        if not cut:
            return answered
        again: list[PendingWrite] = [
            (attempt, append) for attempt in cut for append in attempt.said
        ]
        again += [deed for deed in deeds if deed[0] in cut and not isinstance(deed[1], Append)]
        kept = [(deed, result) for deed, result in answered if deed[0] not in cut]
        return kept + self._write(again)

    def _write(self, deeds: list[PendingWrite]) -> list[tuple[PendingWrite, int]]:
        try:
            results = self._carry_out([write for _, write in deeds])
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001 - the thread must live, for every job of this worker
            _log.exception("%d writes failed and are given up", len(deeds))
            results = [Refusal.REFUSED] * len(deeds)
        return list(zip(deeds, results, strict=True))

    # -- the scribe's thread

    def _run(self) -> None:
        while (deeds := self._next()) and self._repeated(deeds):
            self._over()

    def _next(self) -> list[PendingWrite]:
        """Wait for something to write. Nothing once the scribe is stopped."""
        with self._lock:
            self._work.wait_for(lambda: self._unanswered or self._waits() or self._stopped.is_set())
            if self._unanswered:
                deeds, self._unanswered = self._unanswered, []
                return deeds
            if not self._waits():
                return []
            batch = self._taken()
        return _begun(batch)

    def _waits(self) -> bool:
        return bool(self._pending) and not self._writing

    def _repeated(self, deeds: list[PendingWrite]) -> bool:
        """Write until Redis answers. False when the scribe is stopped before."""
        for trial in Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            stop=stop_when_event_set(self._stopped),
            before_sleep=lambda state: _waits_again(state, len(deeds)),
            retry_error_callback=lambda _: None,
        ):
            with trial:
                self._try(deeds)
                return True
        return False


def _waits_again(state: RetryCallState, writes: int) -> None:
    """Say it at first, and about once a minute for as long as it lasts."""
    if state.attempt_number % SAID_EVERY == 1 and state.outcome is not None:
        _log.warning("%d writes wait: %s", writes, state.outcome.exception())


def _flush_text(attempt: Attempt, pending: _Pending) -> None:
    if not pending.text:
        return
    data = _encode({"text": "".join(pending.text), "index": attempt.index})
    tokens = ",".join(map(str, pending.token_ids))
    attempt.index += max(1, len(pending.token_ids))
    pending.text, pending.token_ids = [], []
    pending.events.append(("token\n" + tokens, data))


def _ends(deeds: list[PendingWrite]) -> bool:
    return any(not isinstance(write, Append) for _, write in deeds)


def _begun(batch: dict[Attempt, _Pending]) -> list[PendingWrite]:
    deeds = _compose(batch)
    faults.reach("before_finish" if _ends(deeds) else "mid_append")
    return deeds


def _compose(batch: dict[Attempt, _Pending]) -> list[PendingWrite]:
    """All appends first, in one script call, then the ends."""
    appends: list[PendingWrite] = []
    ends: list[PendingWrite] = []
    for attempt, pending in batch.items():
        _flush_text(attempt, pending)
        claim = attempt.claim
        for name, data in pending.events:
            kind, _, tokens = name.partition("\n")
            append = Append(claim.id, claim.attempt, attempt.seq, kind, data, tokens)
            attempt.said.append(append)
            appends.append((attempt, append))
            attempt.seq += 1
        if pending.end is not None:
            # An attempt that was let go does not say what its log must hold.
            seq = 0 if attempt.fenced else attempt.seq
            ends.append((attempt, msgspec.structs.replace(pending.end, seq=seq)))
    return appends + ends
