"""A job's events as a body of server-sent events: replayed, then live, to the end of the job."""

import time
from collections.abc import Iterator

from api.http.sse.connection import Connection
from api.http.sse.form import Form
from api.services import Services
from api.state.readers import ReaderPresence
from shared.domain.errors import JobNotFound, StoreUnavailable
from shared.store.events import Event, Follower

HEARTBEAT_SECONDS = 15.0
POLL = 3.0
"""Seconds between two looks at whether the server goes on; idle streams cost CPU by this alone."""
WATCHED_POLL = 1.0
"""Seconds between two such looks for a reader whose leaving cancels its job."""
OUTAGE_SECONDS = 60.0
"""How long a stream rides out an outage of Redis before it sends its reader to reconnect."""
OUTAGE_PAUSE = 0.25
FRAMES_AT_ONCE = 64


class EventStream:
    """Iterate once, then `close`, which the server does in any case.

    `form` is how the events are told. `presence` is set where the job lives only as long as somebody reads
    it.
    """

    def __init__(
        self,
        services: Services,
        follower: Follower,
        connection: Connection,
        form: Form,
        presence: ReaderPresence | None,
    ) -> None:
        self._services = services
        self._follower = follower
        self._connection = connection
        self._form = form
        self._presence = presence
        self._poll = POLL if presence is None else WATCHED_POLL
        self._ended: Event | None = None
        self._told_end = False
        self._outage: float | None = None
        self._closed = False
        self._spoke = 0.0

    def __iter__(self) -> Iterator[bytes]:
        yield self._form.opening
        self._spoke = time.monotonic()
        if self._connection.pushes:
            self._follower.divert(self._pushed)
        while not self._told_end and self._goes_on():
            chunk = self._next_chunk()
            now = time.monotonic()
            if not chunk and now - self._spoke >= HEARTBEAT_SECONDS:
                if self._outage is None and not self._still_logged():
                    return
                chunk = self._form.heartbeat
            # The server sends next, be it this chunk or the end of the body.
            self._connection.await_pushed()
            if chunk:
                yield chunk
                self._spoke = now

    def _pushed(self, event: Event) -> bool:
        """Send an event while `__iter__` waits for one. False where it must do so itself."""
        frame = self._form.frame(event)
        if frame is None or (frame and not self._connection.push(frame)):
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
                frame = None if event.terminal else self._form.frame(event)
                if frame is None:
                    self._ended = event
                else:
                    frames.append(frame)
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
        """The end of the stream, with the whole job; the log holds no more than its status."""
        if not event.terminal:
            return self._form.end(event, None)
        try:
            record = self._services.store.get(self._follower.job_id)
        except JobNotFound:
            return self._form.end(event, None)
        self._services.remember(record)
        return self._form.end(event, record)

    def _still_logged(self) -> bool:
        try:
            return self._services.hub.log.exists(self._follower.job_id)
        except StoreUnavailable:
            # Nobody can tell now; the stream goes on, and asks again.
            return True
