"""Reading what jobs say: replay from the log, then live, without a gap or a repeat.

The log (a Redis stream a job) is the truth; pub/sub carries each event live and names the event before
it. A `Follower` that sees a gap, lags behind its bounded buffer or lives through a lost connection
reads the log again from its cursor, so a dropped message costs latency and never data.

One `EventHub` a process holds one pub/sub connection for any number of followers.
"""

import logging
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from shared.domain.errors import InvalidRequest, StoreUnavailable
from shared.locks import wakeups
from shared.redis.connection import heard, subscriber, unavailable
from shared.store.keys import Keys

BUFFER = 256
PAGE = 256
RESYNC_SECONDS = 15.0
READY_SECONDS = 1.5
RECONNECT_SECONDS = (0.05, 2.0)
TURN = 64
"""How often the hub hands something out before others may run."""

_ID = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
_log = logging.getLogger(__name__)


class EventId(NamedTuple):
    """Where an event stands in its job's log: `<attempt>-<seq>`."""

    attempt: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> "EventId":
        """Raises `InvalidRequest` for anything but `<attempt>-<seq>`."""
        match = _ID.fullmatch(text)
        if match is None:
            raise InvalidRequest(
                f"{text[:40]!r} is not an event id; give the id of the last event that you got, "
                "such as 1-17.",
                code="invalid_cursor",
            )
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def known(cls, raw: bytes) -> "EventId":
        """One that our own scripts wrote."""
        attempt, _, seq = raw.partition(b"-")
        return cls(int(attempt), int(seq))

    def __str__(self) -> str:
        return f"{self.attempt}-{self.seq}"


START = EventId(0, 0)


_LINES = ((b"\xc2\x85", rb"\u0085"), (b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029"))
"""What ends a line in Unicode and not in JSON, which escapes what does in ASCII: as it is, and escaped."""


def _one_line(data: bytes) -> bytes:
    """JSON that is one line also to clients that split lines as Python's `str.splitlines` does."""
    for end, escaped in _LINES:
        if end in data:
            data = data.replace(end, escaped)
    return data


class Event:
    """One event. `kind` is status, token, output, reset or done; `data` is JSON without newlines.

    `frame` is the event as one SSE frame, serialised once for all its readers.
    """

    __slots__ = ("data", "frame", "id", "kind")

    def __init__(self, identity: EventId, kind: str, data: bytes) -> None:
        self.id = identity
        self.kind = kind
        self.data = data
        self.frame = b"id: %d-%d\nevent: %b\ndata: %b\n\n" % (
            *identity,
            kind.encode(),
            _one_line(data),
        )

    @property
    def terminal(self) -> bool:
        return self.kind == "done"


CREATED = Event(EventId(0, 1), "status", b'{"status":"queued","attempt":0}')
"""The first event of every job. It is never stored: who reads a log from its start is told it first."""


class EventLog:
    """The events of jobs: the first, which all have, and those of the stream."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    def read(self, job_id: str, after: EventId = START, count: int = PAGE) -> list[Event]:
        """Up to `count` events after a cursor. Raises `StoreUnavailable`."""
        pipe = self._redis.pipeline(transaction=False)
        # The record first: what it misses between the two, the stream has.
        pipe.hmget(self._keys("job", job_id), _HEAD)
        pipe.xrange(self._keys("log", job_id), min=f"({after}", max="+", count=count)
        (head, unlogged), entries = self._ask(pipe)
        if unlogged:
            return self._unlogged(job_id, EventId.known(head), after)[:count]
        events = [
            Event(EventId.known(raw), entry[b"e"].decode(), entry[b"d"]) for raw, entry in entries
        ]
        if after < CREATED.id and (events or _is_birth(head)):
            return [CREATED, *events][:count]
        return events

    def exists(self, job_id: str) -> bool:
        """Whether a job still has a log. Raises `StoreUnavailable`."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(self._keys("job", job_id), _HEAD)
        pipe.exists(self._keys("log", job_id))
        (head, unlogged), stream = self._ask(pipe)
        return bool(stream or unlogged) or _is_birth(head)

    def _unlogged(self, job_id: str, head: EventId, after: EventId) -> list[Event]:
        """The events of a job that ended with another one's result when it was made: nothing was logged."""
        told = [CREATED, Event(head, "done", b'{"status":"succeeded"}')]
        text = EventId(0, head.seq - 1)
        if CREATED.id < text and after < text:
            told.insert(1, Event(text, "token", self._text(job_id)))
        return [event for event in told if event.id > after]

    def _text(self, job_id: str) -> bytes:
        """The text of the output that a job refers to, as one event."""
        try:
            reference: Any = self._redis.hget(self._keys("job", job_id), "output_of")
            output_id = (reference or b"").decode().partition(" ")[0]
            output: Any = self._redis.hget(self._keys("output", output_id), "output")
        except RedisError as error:
            raise StoreUnavailable("Redis did not answer. Try again in a moment.") from error
        text = msgspec.json.decode(output)["text"] if output else ""
        return msgspec.json.encode({"text": text, "index": 0})

    @staticmethod
    def _ask(pipe: Any) -> Any:
        try:
            return pipe.execute()
        except RedisError as error:
            raise unavailable(error) from error


_HEAD = ("head", "unlogged")


def _is_birth(head: bytes | None) -> bool:
    return head is not None and head.decode() == str(CREATED.id)


@dataclass(eq=False)
class _Channel:
    """A subscribed job: its followers, and how many SUBSCRIBE answers are still on their way."""

    followers: set["Follower"] = field(default_factory=set)
    unanswered: int = 0


class Follower:
    """One reader of one job: `next` gives its events in order, each exactly once.

    The buffer is bounded: a slow reader's buffer is dropped and the log read instead, so it neither
    loses an event nor holds memory or other readers up. The hub's thread appends and drops, one reader
    takes, without a lock: whatever a reader misses shows as a gap before the next event.

    Where hub and reader are greenlets, which take turns, `divert` lets the hub hand frames on itself.
    """

    def __init__(self, hub: "EventHub", job_id: str, cursor: EventId, fresh: bool) -> None:
        self.job_id = job_id
        self.cursor = cursor
        self._hub = hub
        self._replay = not fresh
        self._ready = threading.Event()
        self._news = threading.Event()
        self._live: deque[tuple[EventId, Event]] = deque()
        self._pages: deque[Event] = deque()
        self._synced = time.monotonic()
        self._sink: Callable[[bytes], bool] | None = None
        self._parked = False

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop following."""
        self._hub.leave(self)

    def divert(self, sink: Callable[[bytes], bool]) -> None:
        """Give the frames of events that come while the reader waits in `next` to `sink`; it sleeps on.

        The hub calls `sink`, which neither waits nor raises; where it returns False it has taken nothing, and
        `next` gives the event. The terminal event always comes that way. Not for readers in threads.
        """
        self._sink = sink

    def next(self, timeout: float) -> Event | None:
        """The next event, or None when none came within `timeout` seconds.

        Raises `StoreUnavailable` when the log must be read and Redis does not answer; nothing is lost,
        the next call goes on where this one stopped.
        """
        deadline = time.monotonic() + timeout
        while True:
            # Before the look, so that what comes after it is not missed.
            self._news.clear()
            event = self._replayed() or self._lived()
            if event is not None:
                self.cursor = event.id
                return event
            if self._replay:
                continue
            now = time.monotonic()
            if now >= deadline:
                if now - self._synced > RESYNC_SECONDS:
                    self._replay = True
                    deadline = now
                    continue
                return None
            self._parked = True
            try:
                self._news.wait(deadline - now)
            finally:
                self._parked = False

    @property
    def waiting(self) -> bool:
        """Whether something is here that `next` has not given yet."""
        return bool(self._live or self._pages)

    def _replayed(self) -> Event | None:
        if not self._pages and self._replay:
            if not self._ready.wait(READY_SECONDS):
                raise StoreUnavailable("The event channel does not answer. Try again in a moment.")
            self._replay = False
            page = self._hub.log.read(self.job_id, self.cursor)
            self._synced = time.monotonic()
            self._pages.extend(page)
            if len(page) == PAGE:
                self._replay = True
        return self._pages.popleft() if self._pages else None

    def _lived(self) -> Event | None:
        while self._live and not self._replay:
            try:
                before, event = self._live.popleft()
            except IndexError:
                # The hub has just dropped them all, and set `_replay`.
                break
            if event.id <= self.cursor:
                continue
            if before != self.cursor:
                self._replay = True
                break
            return event
        return None

    # -- called by the hub

    def push(self, before: EventId, event: Event) -> None:
        if self._parked and self._sink is not None and self._diverted(before, event):
            return
        if len(self._live) >= BUFFER:
            self._replay = True
            self._live.clear()
        self._live.append((before, event))
        self._news.set()

    def _diverted(self, before: EventId, event: Event) -> bool:
        assert self._sink is not None
        if self._live or self._replay or before != self.cursor or event.terminal:
            return False
        if not self._sink(event.frame):
            return False
        self.cursor = event.id
        self._synced = time.monotonic()
        return True

    def resync(self) -> None:
        self._ready.clear()
        self._replay = True
        self._live.clear()
        self._news.set()

    def ready(self) -> None:
        self._ready.set()


class Ended(msgspec.Struct, frozen=True):
    """How a job ended, as fields of its record."""

    job_id: str
    fields: dict[str, str]

    @classmethod
    def parse(cls, payload: bytes) -> "Ended":
        """From the message of `finish` in shared/store/lua/lib.lua."""
        *head, body = payload.split(b" ", 8)
        job_id, state, attempt, started, finished, cached, first, second = (
            b" ".join(head).decode().split(" ")
        )
        output, error = int(first), int(second)
        return cls(
            job_id,
            {
                "state": state,
                "attempt": attempt,
                "started": started,
                "finished": finished,
                "cached": cached,
                "output": body[:output].decode(),
                "error": body[output : output + error].decode(),
                "usage": body[output + error :].decode(),
            },
        )


class Ending:
    """Waits for the end of a job that this process made with its hub's `home`: woken once, with all of it."""

    def __init__(self, hub: "EventHub", job_id: str) -> None:
        self.job_id = job_id
        self.doubtful = False
        """The connection was lost meanwhile, so the message may have been: look at the store."""
        self._hub = hub
        self._ended: Ended | None = None
        self._told = hub.wakeup()

    def __enter__(self) -> "Ending":
        return self

    def __exit__(self, *exc: object) -> None:
        self._hub.forget(self)

    def wait(self, timeout: float) -> Ended | None:
        """The end, or None when it has not come within `timeout` seconds or has become doubtful.

        For one caller at a time.
        """
        self._told.wait(max(0.0, timeout))
        return self._ended

    def tell(self, ended: Ended) -> None:
        self._ended = ended
        self._told.wake()

    def doubt(self) -> None:
        self.doubtful = True
        self._told.wake()


class EventHub:
    """One pub/sub connection that feeds every follower of this process.

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
        self._endings: dict[str, Ending] = {}
        self.wakeup = wakeups()
        self.home = secrets.token_hex(6)
        self._home_channel = keys("ended", self.home).encode()
        self._at_home = threading.Event()
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
        return self._at_home.wait(timeout)

    def expect(self, job_id: str) -> Ending:
        """Wait for the end of a job that is about to be made with this hub's `home`.

        Raises `StoreUnavailable` when the channel cannot be heard: do not make the job then.
        """
        if not (self._at_home.is_set() or self._at_home.wait(READY_SECONDS)):
            raise StoreUnavailable("The event channel does not answer. Try again in a moment.")
        ending = self._endings[job_id] = Ending(self, job_id)
        return ending

    def forget(self, ending: Ending) -> None:
        self._endings.pop(ending.job_id, None)

    def __len__(self) -> int:
        """How many jobs are being followed or waited for."""
        return len(self._channels) + len(self._endings)

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
            connection.send_command("SUBSCRIBE", self._home_channel, check_health=False)
            for ending in list(self._endings.values()):
                ending.doubt()
            self._channels = {n: c for n, c in self._channels.items() if c.followers}
            for name, channel in self._channels.items():
                channel.unanswered = 0
                self._send("SUBSCRIBE", name, channel)
                for follower in channel.followers:
                    follower.resync()

    def _disconnect(self) -> None:
        self._at_home.clear()
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def _read(self) -> None:
        connection = self._connection
        message = heard(connection, READY_SECONDS)
        if message[0] == b"message":
            if message[1] == self._home_channel:
                self._end(Ended.parse(message[2]))
            else:
                self._deliver(message[1], message[2])
        elif message[0] == b"subscribe":
            if message[1] == self._home_channel:
                self._at_home.set()
            else:
                self._answered(message[1])

    def _end(self, ended: Ended) -> None:
        ending = self._endings.get(ended.job_id)
        if ending is not None:
            ending.tell(ended)
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


def follow_all(follower: Follower, timeout: float) -> Iterator[Event]:
    """All events of a job up to its end; stops early when none comes within `timeout` seconds."""
    while (event := follower.next(timeout)) is not None:
        yield event
        if event.terminal:
            return
