"""A job's events as a body of server-sent events: replayed, then live, to the end of the job."""

import time
from collections.abc import Iterator

from api.http.answers import Links, job_json
from api.http.sse.connection import Connection
from api.services import Services
from api.state.readers import ReaderPresence
from shared.domain.errors import JobNotFound, StoreUnavailable
from shared.store.events import Event, Follower

OPENING = b"retry: 1000\n\n"
HEARTBEAT = b": heartbeat\n\n"
HEARTBEAT_SECONDS = 15.0
POLL = 3.0
"""Seconds between two looks at whether the server goes on; idle streams cost CPU by this alone."""
WATCHED_POLL = 1.0
"""The same for a reader whose job goes when it does."""
OUTAGE_SECONDS = 60.0
"""How long a stream rides out an outage of Redis before it sends its reader to reconnect."""
OUTAGE_PAUSE = 0.25
STALLED_SECONDS = 60.0
"""A reader that takes nothing for so long is cut off; it may come back with its last id."""
FRAMES_AT_ONCE = 64


class EventStream:
    """Iterate once, then `close`, which the server does in any case.

    `presence` is set where the job lives only as long as somebody reads it.
    """

    def __init__(
        self,
        services: Services,
        follower: Follower,
        connection: Connection,
        urls: Links,
        presence: ReaderPresence | None,
    ) -> None:
        self._services = services
        self._follower = follower
        self._connection = connection
        self._urls = urls
        self._presence = presence
        self._poll = POLL if presence is None else WATCHED_POLL
        self._ended: Event | None = None
        self._told_end = False
        self._outage: float | None = None
        self._closed = False
        self._spoke = 0.0

    def __iter__(self) -> Iterator[bytes]:
        self._connection.limit_writes(STALLED_SECONDS)
        yield OPENING
        self._spoke = time.monotonic()
        if self._connection.pushes:
            self._follower.divert(self._pushed)
        while not self._told_end and self._goes_on():
            chunk = self._next_chunk()
            now = time.monotonic()
            if not chunk and now - self._spoke >= HEARTBEAT_SECONDS:
                if self._outage is None and not self._still_logged():
                    return
                chunk = HEARTBEAT
            # The server sends next, be it this chunk or the end of the body.
            self._connection.await_pushed()
            if chunk:
                yield chunk
                self._spoke = now

    def _pushed(self, frame: bytes) -> bool:
        """Send a frame while `__iter__` waits for one. False where it must do so itself."""
        if not self._connection.push(frame):
            return False
        self._spoke = time.monotonic()
        return True

    def close(self) -> None:
        """Stop following; where the job depends on its readers, say that this one is gone."""
        if self._closed:
            return
        self._closed = True
        self._follower.close()
        if self._presence is not None and not self._told_end:
            # A reader that this server sends away, because it ends, has not left its job.
            self._presence.leave(watch=not self._services.lifecycle.draining)

    def _goes_on(self) -> bool:
        if self._services.lifecycle.draining or self._connection.gone():
            return False
        return self._outage is None or time.monotonic() - self._outage < OUTAGE_SECONDS

    def _next_chunk(self) -> bytes:
        """What is there to say now, b"" when nothing came for a while."""
        frames: list[bytes] = []
        try:
            while self._ended is None and len(frames) < FRAMES_AT_ONCE:
                if frames and not self._follower.waiting:
                    break
                event = self._follower.next(0.0 if frames else self._poll)
                if event is None:
                    break
                if event.terminal:
                    self._ended = event
                else:
                    frames.append(event.frame)
            if self._ended is not None:
                frames.append(self._last_frame(self._ended))
                self._told_end = True
            self._outage = None
        except StoreUnavailable:
            self._outage = self._outage or time.monotonic()
            if not frames:
                time.sleep(OUTAGE_PAUSE)
        return b"".join(frames)

    def _last_frame(self, event: Event) -> bytes:
        """The `done` event with the whole job; the log holds no more than its status."""
        try:
            record = self._services.store.get(self._follower.job_id)
        except JobNotFound:
            return event.frame
        self._services.remember(record)
        return Event(event.id, event.kind, job_json(record, self._urls)).frame

    def _still_logged(self) -> bool:
        try:
            return self._services.hub.log.exists(self._follower.job_id)
        except StoreUnavailable:
            return True
