"""Delivers the webhooks that are due in the outbox: a thread for each send, at most so many at once.

A `DeliveryPoller` looks at the outbox and rings; the Celery task that answers runs `Deliveries.deliver` on
some delivery worker, until nothing is due any more.
"""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from shared import context
from shared.domain.errors import StoreUnavailable
from shared.faults import faults
from shared.hooks import Observers
from shared.webhooks.outbox import Message, Outbox, Recorded
from shared.webhooks.schedule import Schedule, Sent
from shared.webhooks.signers import Signer
from workers.periodic import Periodic
from workers.webhooks.sender import Sender

LOOK_SECONDS = 0.25
CLAIMED_AT_ONCE = 8
"""Messages in one answer of Redis: each holds a whole job."""
RECORD_TRIES = 5
LEASE_MARGIN = 45.0
"""How much longer than a send its lease lasts, in seconds."""
UNSIGNED = Sent(fault="unsigned")
DELETED = Sent(fault="deleted")

_log = logging.getLogger(__name__)


class Deliveries:
    """The senders of one process. `timeout` (of a send) and `drain_time` are in seconds.

    `signer` says what each message is signed with.
    """

    def __init__(
        self,
        outbox: Outbox,
        sender: Sender,
        signer: Signer,
        schedule: Schedule,
        *,
        concurrency: int,
        timeout: float,
        drain_time: float,
        observers: Observers | None = None,
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._signer = signer
        self._schedule = schedule
        self._concurrency = concurrency
        self._lease = timeout + LEASE_MARGIN
        self._drain_time = drain_time
        self._observers = observers or Observers()
        self._changed = threading.Condition()
        self._under_way: dict[tuple[str, int], Message] = {}
        self._delivering = False
        self._called = False
        self._stop_at: float | None = None

    def stop_claiming(self) -> None:
        """Claim no more. What is under way has the drain time to end, and is given back after it."""
        with self._changed:
            self._stop_at = time.monotonic() + self._drain_time
            self._changed.notify_all()

    def deliver(self) -> None:
        """Send whatever is due, until nothing is. Returns at once where another thread is at it."""
        with self._changed:
            self._called = True
            if self._delivering:
                self._changed.notify_all()
                return
            self._delivering = True
        try:
            while self._step():
                pass
        except BaseException:
            with self._changed:
                self._delivering = False
            raise

    def _step(self) -> bool:
        """Claim and start what there is room for, then wait for a change. False when all is done."""
        with self._changed:
            self._called = False
            stopping = self._stop_at is not None
            free = 0 if stopping else self._concurrency - len(self._under_way)
            room = min(free, CLAIMED_AT_ONCE)
            held = Counter(message.tenant for message in self._under_way.values())
        claimed = self._claim(room, free, held) if room else []
        for message in claimed:
            with self._changed:
                self._under_way[message.id, message.attempt] = message
            name = f"send {message.id}"
            threading.Thread(target=self._send, args=(message,), name=name, daemon=True).start()
        with self._changed:
            if self._stop_at is not None and time.monotonic() >= self._stop_at:
                self._give_back()
                self._delivering = False
                return False
            if not self._under_way and not claimed and not self._called:
                # Under the lock, so that a doorbell that rings now starts anew.
                self._delivering = False
                return False
            if not self._called and len(claimed) < max(room, 1):
                self._changed.wait(LOOK_SECONDS)
        return True

    def _claim(self, room: int, free: int, held: Mapping[str, int]) -> list[Message]:
        try:
            claimed = self._outbox.claim(room, self._lease, free=free, held=held)
        except StoreUnavailable as error:
            _log.warning("cannot claim deliveries: %s", error)
            return []
        if claimed:
            faults.reach("delivery_claimed")
        return claimed

    def _send(self, message: Message) -> None:
        context.begin(**message.about)
        try:
            self._deliver(message)
        except StoreUnavailable:
            _log.warning("%s: what became of it cannot be written down; its lease ends", message.id)
        except Exception:  # noqa: BLE001 - the delivery is due again when its lease ends
            _log.exception("%s: a send broke", message.id)
        finally:
            with self._changed:
                self._under_way.pop((message.id, message.attempt), None)
                self._changed.notify_all()

    def _deliver(self, message: Message) -> None:
        keyring = self._signer(message)
        if keyring is None:
            sent = DELETED
        elif not keyring:
            # Unsigned it must not go; it waits until the operator sets a secret again.
            _log.error("%s: there is no secret to sign it with any more", message.id)
            sent = UNSIGNED
        else:
            body = message.body
            headers = keyring.headers(message.id, int(time.time()), body)
            sent = self._sender.send(message.url, body, headers, message.tenant)
        faults.reach("delivery_sent")
        age = math.inf if message.once else message.age + sent.seconds
        decision = self._schedule.decide(sent, message.failures, age)
        result = Recorded(
            decision.outcome, decision.delay, sent.status, decision.fault, decision.well
        )
        if not self._record(message, result):
            _log.warning("%s: attempt %d came too late", message.id, message.attempt)
            return
        self._observers.emit(
            "webhook_delivered", message.model, decision.outcome, sent.seconds, message.attempt
        )
        if decision.outcome == "dead":
            # The host alone: a webhook's path is often its secret.
            host = message.to.rpartition(" ")[2]
            _log.warning("%s to %s was given up: %s", message.id, host, decision.fault)

    def _record(self, message: Message, result: Recorded) -> bool:
        """Write down what became of a send; worth several tries, for otherwise it is sent twice."""
        for _ in range(RECORD_TRIES - 1):
            try:
                return self._outbox.record(message, result)
            except StoreUnavailable:
                time.sleep(LOOK_SECONDS)
        return self._outbox.record(message, result)

    def _give_back(self) -> None:
        for message in list(self._under_way.values()):
            try:
                self._outbox.record(message, Recorded("returned"))
            except StoreUnavailable as error:
                _log.warning("%s waits for its lease to end: %s", message.id, error)


class DeliveryPoller(Periodic):
    """Looks at the outbox four times a second and rings when deliveries are due."""

    def __init__(self, outbox: Outbox, ring: Callable[[], object], longest_wait: float) -> None:
        """`longest_wait`: seconds after which what was never let through is given up."""
        super().__init__("delivery poller", LOOK_SECONDS, self.look, _log)
        self._outbox = outbox
        self._ring = ring
        self._longest_wait = longest_wait

    def look(self) -> None:
        """Ring if deliveries are due. Raises `StoreUnavailable`."""
        if self._outbox.ring_wanted(self._longest_wait):
            self._ring()
