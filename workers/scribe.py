"""Writes what attempts say and how they end: one thread, everything that gathered in one round trip.

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
from tenacity import Retrying, retry_if_exception_type, stop_when_event_set, wait_random_exponential

from shared.errors import StoreUnavailable
from shared.faults import faults
from shared.records import Append, Claim, Finish, Requeue, Write
from workers.host.messages import PieceOut

PENDING_BOUND = 20_000
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
Deed = tuple[Attempt, Write]
"""A write, and whose it is."""


Answer = tuple[Attempt, int, bool]
"""What the store said to a write of an attempt, and whether it was its last."""


class Scribe:
    """`step`, `tell` and `end` queue; the thread writes; `answered` learns what Redis said.

    `write` carries out writes and raises `StoreUnavailable` where they must be repeated.
    `answered` gets the numbers of `JobStore.write`, for every attempt whose write was fenced or was its
    last, or for which a cancel is waiting; those of one write together.
    """

    def __init__(
        self,
        write: Callable[[list[Write]], list[int]],
        answered: Callable[[Sequence[Answer]], None],
    ) -> None:
        self._carry_out = write
        self._answered = answered
        self._pending: dict[Attempt, _Pending] = {}
        self._changed = threading.Condition()
        self._writing = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scribe", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what could not be written by now is left to leases and the rescuer."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(timeout=5)

    def step(self, said: Sequence[Said], ended: Sequence[tuple[Attempt, Finish | Requeue]]) -> None:
        """Take down what a step of the engine brought: it leaves in one write.

        Waits while too much is unwritten, which holds the engine back.
        """
        with self._changed:
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
            self._changed.notify_all()

    def tell(self, attempt: Attempt, kind: str, data: bytes) -> None:
        """Send a `reset` event; `data` is JSON."""
        with self._changed:
            self._bound()
            pending = self._pending.setdefault(attempt, _Pending())
            _flush_text(attempt, pending)
            pending.events.append((kind, data))
            self._changed.notify_all()

    def end(self, attempt: Attempt, end: Finish | Requeue) -> None:
        """End an attempt, after all that it said."""
        with self._changed:
            self._pending.setdefault(attempt, _Pending()).end = end
            self._changed.notify_all()

    def drop(self, attempt: Attempt) -> None:
        """Forget what an attempt still had to say: it is fenced."""
        with self._changed:
            self._pending.pop(attempt, None)

    def flush(self, timeout: float) -> bool:
        """Wait until all is written. False when that took longer than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._pending and not self._writing, timeout=timeout
            )

    def _bound(self) -> None:
        self._changed.wait_for(lambda: len(self._pending) < PENDING_BOUND or self._stopped.is_set())

    # -- the scribe's thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._pending or self._stopped.is_set())
                if self._stopped.is_set() and not self._pending:
                    return
                batch, self._pending = self._pending, {}
                self._writing = True
            deeds = _compose(batch)
            ends = any(pending.end is not None for pending in batch.values())
            faults.reach("before_finish" if ends else "mid_append")
            results = self._carried_out(deeds)
            if results is None:
                return
            if ends:
                faults.reach("after_finish")
            answers = [
                (attempt, result, not isinstance(write, Append))
                for (attempt, write), result in results
            ]
            self._answered([answer for answer in answers if answer[2] or answer[1] != 1])

    def _carried_out(self, deeds: list[Deed]) -> list[tuple[Deed, int]] | None:
        """Write, and where Redis has forgotten events all that is remembered of their attempts again."""
        results = self._write([write for _, write in deeds])
        if results is None:
            return None
        answered = list(zip(deeds, results, strict=True))
        cut = dict.fromkeys(attempt for (attempt, _), result in answered if result == -1)
        if not cut:
            return answered
        again: list[Deed] = [(attempt, append) for attempt in cut for append in attempt.said]
        again += [deed for deed in deeds if deed[0] in cut and not isinstance(deed[1], Append)]
        results = self._write([write for _, write in again])
        if results is None:
            return None
        kept = [(deed, result) for deed, result in answered if deed[0] not in cut]
        return kept + list(zip(again, results, strict=True))

    def _write(self, writes: list[Write]) -> list[int] | None:
        for trial in Retrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            stop=stop_when_event_set(self._stopped),
            before_sleep=lambda state: (
                _log.warning("Redis is away; %d writes wait", len(writes))
                if state.attempt_number == 1
                else None
            ),
            retry_error_callback=lambda _: None,
        ):
            with trial:
                try:
                    return self._carry_out(writes)
                except StoreUnavailable:
                    raise
                except Exception:  # noqa: BLE001 - the thread must live, for every job of this worker
                    _log.exception("%d writes were refused and are given up", len(writes))
                    return [-1] * len(writes)
        return None


def _flush_text(attempt: Attempt, pending: _Pending) -> None:
    if not pending.text:
        return
    data = _encode({"text": "".join(pending.text), "index": attempt.index})
    tokens = ",".join(map(str, pending.token_ids))
    attempt.index += max(1, len(pending.token_ids))
    pending.text, pending.token_ids = [], []
    pending.events.append(("token\n" + tokens, data))


def _compose(batch: dict[Attempt, _Pending]) -> list[Deed]:
    """All appends first, in one script call, then the ends."""
    appends: list[Deed] = []
    ends: list[Deed] = []
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
