"""A stream that begins when Redis is back: for readers that give up for good at any answer but 200."""

import time
from collections.abc import Callable, Iterator

from api.http.sse.connection import Connection
from api.http.sse.event_stream import (
    HEARTBEAT_SECONDS,
    OUTAGE_PAUSE,
    OUTAGE_SECONDS,
    POLL,
    EventStream,
)
from api.http.sse.form import HEARTBEAT, OPENING
from api.services import Services
from shared.domain.errors import JobsError, StoreUnavailable


class AwaitedStream:
    """What an `EventStream` is, for a job that cannot be looked up yet. Iterate once, then `close`.

    `begin` makes its stream, or None where nothing is left to tell. Where it raises anything but
    `StoreUnavailable` the body just ends: the reader comes back and gets the answer that fits.
    """

    def __init__(
        self, services: Services, connection: Connection, begin: Callable[[], EventStream | None]
    ) -> None:
        self._services = services
        self._connection = connection
        self._begin = begin
        self._events: EventStream | None = None

    def __iter__(self) -> Iterator[bytes]:
        yield OPENING
        began = spoke = time.monotonic()
        while self._goes_on() and time.monotonic() - began < OUTAGE_SECONDS:
            if self._found():
                yield from self._events or ()
                return
            if time.monotonic() - spoke >= HEARTBEAT_SECONDS:
                yield HEARTBEAT
                spoke = time.monotonic()

    def close(self) -> None:
        """Follow the job no longer; its events go nowhere from here on."""
        if self._events is not None:
            self._events.close()

    def _found(self) -> bool:
        """Whether it is known what there is to tell; waits a while for Redis."""
        # All of a process wait for its one channel, so that they do not all try to connect.
        if not self._services.hears(POLL):
            return False
        try:
            self._events = self._begin()
        except StoreUnavailable:
            time.sleep(OUTAGE_PAUSE)
            return False
        except JobsError:
            # The job is gone: there is nothing to wait for any more.
            return True
        return True

    def _goes_on(self) -> bool:
        return not (self._services.lifecycle.draining or self._connection.gone())
