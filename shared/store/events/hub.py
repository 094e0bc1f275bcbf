"""The process' one pub/sub connection: events to those who follow jobs, completions to those who wait."""

import logging
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from shared.domain.errors import StoreUnavailable
from shared.domain.events import START, Event, EventId
from shared.redis.connection import heard, subscriber
from shared.store.events.completion import TICK, Completion, CompletionWaiter
from shared.store.events.follower import READY_SECONDS, RESYNC_SECONDS, Follower
from shared.store.events.log import EventLog
from shared.store.keys import Keys
from shared.store.lua_constants import REPLY_PREFIX

RECONNECT_SECONDS = (0.05, 2.0)
TURN = 64
"""How often the hub hands something out before others may run."""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Channel:
    """A subscribed job: its followers, and how many SUBSCRIBE answers are still on their way."""

    followers: set[Follower] = field(default_factory=set)
    unanswered: int = 0


class EventHub:
    """One pub/sub connection that feeds every follower and every completion waiter of this process.

    The hub's thread owns the connection's reading side; SUBSCRIBE and UNSUBSCRIBE are sent by whoever
    needs them. A lost connection is made anew for ever, and every follower then reads the log.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.log = EventLog(redis, keys)
        self._keys = keys
        self._pool: Any = redis.connection_pool
        self._lock = threading.Lock()
        self._channels: dict[bytes, _Channel] = {}
        # Put in and taken out without the lock: each is one operation of the interpreter.
        self._waiters: dict[str, CompletionWaiter] = {}
        self.reply_channel = REPLY_PREFIX + secrets.token_hex(6)
        self._reply_name = keys("ended", self.reply_channel).encode()
        self._listening = threading.Event()
        self._connection: Any = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._since_turn = 0

    def start(self) -> None:
        """Start the reading thread; a second call does nothing."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="event-hub", daemon=True)
                self._thread.start()
                threading.Thread(target=self._tick, name="completion-clock", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        with self._lock, suppress(RedisError, OSError):
            if self._connection is not None:
                self._connection.send_command("PING", check_health=False)
        if self._thread is not None:
            self._thread.join(timeout=5)

    def follow(self, job_id: str, after: EventId = START, *, fresh: bool = False) -> Follower:
        """Follow a job from a cursor. `fresh`: the job is not created yet, so nothing needs replaying."""
        follower = Follower(self, job_id, after, fresh)
        name = self._name(job_id)
        with self._lock:
            channel = self._channels.setdefault(name, _Channel())
            channel.followers.add(follower)
            if len(channel.followers) == 1:
                self._send("SUBSCRIBE", name, channel)
            elif channel.unanswered == 0 and self._connection is not None:
                follower.ready()
        return follower

    def leave(self, follower: Follower) -> None:
        name = self._name(follower.job_id)
        with self._lock:
            channel = self._channels.get(name)
            if channel is None or follower not in channel.followers:
                return
            channel.followers.discard(follower)
            if not channel.followers:
                self._send("UNSUBSCRIBE", name, channel)
                if channel.unanswered == 0:
                    del self._channels[name]

    def hears(self, timeout: float) -> bool:
        """Whether the connection stands, now or within `timeout` seconds."""
        return self._listening.wait(timeout)

    def expect(self, job_id: str) -> CompletionWaiter:
        """Wait for the end of a job that is about to be made with this hub's `reply_channel`.

        Raises `StoreUnavailable` when the channel cannot be heard: do not make the job then.
        """
        if not (self._listening.is_set() or self._listening.wait(READY_SECONDS)):
            raise StoreUnavailable("The event channel does not answer. Try again in a moment.")
        waiter = self._waiters[job_id] = CompletionWaiter(self, job_id)
        return waiter

    def forget(self, waiter: CompletionWaiter) -> None:
        self._waiters.pop(waiter.job_id, None)

    def __len__(self) -> int:
        """How many jobs are being followed or waited for."""
        return len(self._channels) + len(self._waiters)

    # -- the connection

    def _name(self, job_id: str) -> bytes:
        return self._keys("events", job_id).encode()

    def _send(self, command: str, name: bytes, channel: _Channel) -> None:
        if self._connection is None:
            return
        if command == "SUBSCRIBE":
            channel.unanswered += 1
        try:
            self._connection.send_command(command, name, check_health=False)
        except (RedisError, OSError):
            # The reading thread meets the same fault, connects anew and subscribes to everything.
            _log.debug("sending %s failed", command, exc_info=True)

    def _tick(self) -> None:
        over = False
        while not over:
            over = self._stopped.wait(TICK)
            for waiter in list(self._waiters.values()):
                waiter.tick()

    def _run(self) -> None:
        shortest, longest = RECONNECT_SECONDS
        pause = shortest
        while not self._stopped.is_set():
            try:
                self._connect()
                pause = shortest
                while not self._stopped.is_set():
                    self._read()
            except Exception as error:  # noqa: BLE001 - whatever broke it, the cure is a new connection
                _log.warning("event channel lost (%s); connecting again", type(error).__name__)
                self._disconnect()
                self._stopped.wait(pause)
                pause = min(longest, pause * 2)
        self._disconnect()

    def _connect(self) -> None:
        connection = subscriber(self._pool, RESYNC_SECONDS)
        with self._lock:
            self._connection = connection
            connection.send_command("SUBSCRIBE", self._reply_name, check_health=False)
            for waiter in list(self._waiters.values()):
                waiter.mark_stale()
            self._channels = {n: c for n, c in self._channels.items() if c.followers}
            for name, channel in self._channels.items():
                channel.unanswered = 0
                self._send("SUBSCRIBE", name, channel)
                for follower in channel.followers:
                    follower.resync()

    def _disconnect(self) -> None:
        self._listening.clear()
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _read(self) -> None:
        connection = self._connection
        message = heard(connection, READY_SECONDS)
        if message[0] == b"message":
            if message[1] == self._reply_name:
                for completion in Completion.parse_all(message[2]):
                    self._complete(completion)
            else:
                self._deliver(message[1], message[2])
        elif message[0] == b"subscribe":
            if message[1] == self._reply_name:
                self._listening.set()
            else:
                self._answered(message[1])

    def _complete(self, completion: Completion) -> None:
        waiter = self._waiters.get(completion.job_id)
        if waiter is not None:
            waiter.complete(completion)
            self._handed_out()

    def _handed_out(self) -> None:
        """Where a flood of news never lets the hub wait, other greenlets get their turn here."""
        self._since_turn += 1
        if self._since_turn >= TURN:
            self._since_turn = 0
            time.sleep(0)

    def _deliver(self, name: bytes, payload: bytes) -> None:
        identity, before, kind, data = payload.split(b" ", 3)
        event = Event(EventId.known(identity), kind.decode(), data)
        previous = EventId.known(before)
        with self._lock:
            channel = self._channels.get(name)
            followers = tuple(channel.followers) if channel is not None else ()
        for follower in followers:
            follower.push(previous, event)
            self._handed_out()

    def _answered(self, name: bytes) -> None:
        with self._lock:
            channel = self._channels.get(name)
            if channel is None:
                return
            channel.unanswered -= 1
            if channel.unanswered > 0:
                return
            if not channel.followers:
                del self._channels[name]
            for follower in channel.followers:
                follower.ready()
