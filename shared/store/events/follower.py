"""One reader of one job's events: what the log has first, then live, without a gap or a repeat."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from shared.domain.errors import StoreUnavailable
from shared.domain.events import Event, EventId
from shared.store.events.log import PAGE, EventLog

BUFFER = 256
"""Live events that wait for a reader before it reads the log instead."""
RESYNC_SECONDS = 15.0
"""Silence after which a reader looks at the log, should the channel have lost something without a fault."""
READY_SECONDS = 1.5


class Source(Protocol):
    """What feeds followers: `shared.store.events.hub.EventHub`."""

    log: EventLog

    def leave(self, follower: "Follower") -> None:
        """Feed this follower no longer."""


class Follower:
    """One reader of one job: `next` gives its events in order, each exactly once.

    The buffer is bounded: a slow reader's buffer is dropped and the log read instead, so it neither
    loses an event nor holds memory or other readers up. The hub's thread appends and drops, one reader
    takes, without a lock: whatever a reader misses shows as a gap before the next event.

    Where hub and reader are greenlets, which take turns, `divert` lets the hub hand events on itself.
    """

    def __init__(self, source: Source, job_id: str, cursor: EventId, fresh: bool) -> None:
        self.job_id = job_id
        self.cursor = cursor
        self._source = source
        self._replay = not fresh
        self._ready = threading.Event()
        self._news = threading.Event()
        self._live: deque[tuple[EventId, Event]] = deque()
        self._pages: deque[Event] = deque()
        self._synced = time.monotonic()
        self._sink: Callable[[Event], bool] | None = None
        self._parked = False

    def __enter__(self) -> "Follower":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Follow the job no longer. May be called twice."""
        self._source.leave(self)

    def divert(self, sink: Callable[[Event], bool]) -> None:
        """Give the events that come while the reader waits in `next` to `sink`; it sleeps on.

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
            page = self._source.log.read(self.job_id, self.cursor)
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
        if not self._sink(event):
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


def follow_all(follower: Follower, timeout: float) -> Iterator[Event]:
    """All events of a job up to its end; stops early when none comes within `timeout` seconds."""
    while (event := follower.next(timeout)) is not None:
        yield event
        if event.terminal:
            return
