"""A job's events as Replicate's stream: `output`, `error`, `done`, each with an id to come back with.

An id is that of the job's event, and ends in `~` where only the first part of what that event says was told:
a text that begins like a URL goes out in two parts (see `pieces`), and the end of a job may need two events.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from api.http.sse.form import HEARTBEAT, OPENING
from api.replicate.predictions import is_text
from shared.domain.events import Event, EventId
from shared.domain.models.catalog import Catalog
from shared.domain.predictions import error, pieces, text_of
from shared.domain.records import Record
from shared.domain.states import JobState

EVENT_ID = "^([0-9]{1,9}-[0-9]{1,9}~?)?$"
"""The pattern of ids; none is the beginning."""
RESET = (
    "The model began its text anew, and what this stream has told is not part of it. Read it again."
)
REASONS = {JobState.CANCELED: "canceled", JobState.FAILED: "error", JobState.EXPIRED: "error"}
_DECODE = msgspec.json.Decoder().decode
_LINE = re.compile(r"\r\n|\r|\n")


class Place(NamedTuple):
    """Where a reader goes on: behind the event `after`, and of the event `half` it has the first part."""

    after: EventId
    half: EventId | None = None

    @classmethod
    def parse(cls, given: str) -> "Place":
        """Raises `InvalidRequest` for what is no id."""
        told = EventId.parse(given.removesuffix("~"))
        if not given.endswith("~"):
            return cls(told)
        # Every attempt has an event 0 that says nothing here.
        return cls(EventId(told.attempt, max(told.seq - 1, 0)), told)


class ReplicateForm:
    """The words of one stream, for a reader that goes on at `place`; None: from the beginning."""

    opening = OPENING
    heartbeat = HEARTBEAT

    def __init__(self, catalog: Catalog, place: Place | None) -> None:
        self._catalog = catalog
        self._half = place.half if place is not None else None
        # No event has an id here but those that tell some output, or the end.
        self._spoke = place is not None

    def frame(self, event: Event) -> bytes | None:
        """See `Form.frame`. A text that begins anew cannot be told: clients would join both."""
        if event.kind == "reset":
            return None
        if event.kind not in ("token", "output"):
            return b""
        said = _DECODE(event.data)
        if event.kind == "output":
            parts = [_text(said)]
        else:
            # A prediction's output is the first of several texts.
            parts = pieces(said["text"]) if not said.get("choice") else []
        self._spoke = self._spoke or bool(parts)
        last = len(parts) - 1
        frames = [_frame(event.id, "output", one, half=at < last) for at, one in enumerate(parts)]
        return b"".join(frames[1:] if event.id == self._half else frames)

    def end(self, event: Event, record: Record | None) -> bytes:
        """See `Form.end`."""
        if event.kind == "reset" or record is None:
            why = (
                RESET
                if record is not None or event.kind == "reset"
                else "The job has been deleted."
            )
            return self._broken(event.id, why)
        state = record.state
        if state is not JobState.SUCCEEDED:
            reason = {"reason": REASONS[state]}
            if state is JobState.CANCELED:
                return _frame(event.id, "done", _text(reason))
            job = _DECODE(record.to_json())
            return self._broken(event.id, error(state, job["error"]) or "", reason)
        return self._rest(event.id, record) + _frame(event.id, "done", "{}")

    def _broken(self, event: EventId, why: str, reason: Mapping[str, Any] | None = None) -> bytes:
        told = _frame(event, "error", why, half=True) if event != self._half else b""
        return told + _frame(event, "done", _text(reason or {"reason": "error"}))

    def _rest(self, event: EventId, record: Record) -> bytes:
        """The output of a job that has streamed nothing, such as embeddings."""
        job = _DECODE(record.to_json())
        made = job["output"]
        text = is_text(job["model"], self._catalog) and text_of(made) is not None
        return b"" if self._spoke or text else _frame(event, "output", _text(made), half=True)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _frame(event: EventId, kind: str, data: str, *, half: bool = False) -> bytes:
    """An event. Data is as it is, a `data:` line a line."""
    lines = "".join(f"data: {line}\n" for line in _LINE.split(data))
    return f"id: {event}{'~' if half else ''}\nevent: {kind}\n{lines}\n".encode()
