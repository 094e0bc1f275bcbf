"""How a job's events are told: the native events here, other people's in their own packages."""

from typing import Protocol

from api.http.answers import Links, job_json
from shared.domain.events import Event
from shared.domain.records import Record

OPENING = b"retry: 1000\n\n"
HEARTBEAT = b": heartbeat\n\n"


class Form(Protocol):
    """The words of one stream. What is empty is not sent."""

    @property
    def opening(self) -> bytes:
        """What a reader is told at once."""

    @property
    def heartbeat(self) -> bytes:
        """What one is told who has heard nothing for a while."""

    def frame(self, event: Event) -> bytes | None:
        """An event that is not the last one; None where the stream cannot go on with it, but ends."""

    def end(self, event: Event, record: Record | None) -> bytes:
        """The end of the stream: by the terminal event, with the whole job unless it is gone, or by the event
        that `frame` has no words for.
        """


class NativeForm:
    """The events of `GET /v1/jobs/{job_id}/events`, each with its id."""

    opening = OPENING
    heartbeat = HEARTBEAT

    def __init__(self, urls: Links) -> None:
        self._urls = urls

    def frame(self, event: Event) -> bytes:
        """See `Form.frame`."""
        return event.frame

    def end(self, event: Event, record: Record | None) -> bytes:
        """See `Form.end`. The `done` event carries the job, which its log does not."""
        if record is None:
            return event.frame
        return Event(event.id, event.kind, job_json(record, self._urls)).frame
