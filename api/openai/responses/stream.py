"""A job's events as the events of a response's stream, numbered from 0.

Which events there are, with which numbers and ids, is a function of what is stored alone: however often a
reader comes back, whichever process answers it and however many attempts the job needs, it is told the same.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from api.openai.errors import stream_error
from api.openai.responses import documents
from api.openai.responses.documents import Asked
from api.openai.responses.items import Item
from api.openai.responses.open_items import (
    OpenCall,
    OpenItem,
    OpenReasoning,
    OpenText,
    Pieces,
    piece,
)
from shared.domain.events import Event
from shared.domain.parts import Content, Part, Reasoning, ToolCall, parts_of
from shared.domain.records import Record

FIRST_OF_ATTEMPT = 3
"""How many events come before those of the first attempt: created, queued, in_progress."""
HEARTBEAT = b": hb\n\n"
RESET = "The model began its answer anew. What was told is not part of it: read the stream from its start."
GONE = "The response has been deleted."
_DECODE = msgspec.json.Decoder().decode


class Said(msgspec.Struct):
    """The data of a `token` event. A text that answers no chat has no parts."""

    text: str
    parts: list[Part] | None = None


_SAID = msgspec.json.Decoder(Said)


class ResponseStream:
    """The stream of one response, for one reader: a `Form`.

    `model` and `metadata` are those that were asked for. `after` is the number of the last event that the
    reader has. `began_anew`: the events before the first that this is given are void.
    """

    heartbeat = HEARTBEAT

    def __init__(
        self,
        job_id: str,
        model: str,
        metadata: Mapping[str, str],
        asked: Asked,
        after: int = -1,
        *,
        began_anew: bool = False,
    ) -> None:
        self._job_id = job_id
        self._asked = asked
        self._after = after
        self._void = began_anew and after >= FIRST_OF_ATTEMPT
        """What the reader has may be of an answer that is void, and no number tells."""
        self._named = (job_id, model, metadata)
        self._number = 0
        self._running = False
        self._items: list[OpenItem] = []
        self._by_part: dict[str, OpenItem] = {}

    @property
    def opening(self) -> bytes:
        """The events of a new response; a heartbeat for a reader who has had them before."""
        queued = self._snapshot("queued")
        told = self._event("response.created", response=queued)
        told += self._event("response.queued", response=queued)
        return told or HEARTBEAT

    def frame(self, event: Event) -> bytes | None:
        """See `Form.frame`. An answer that begins anew cannot be told: clients would join both."""
        if self._void or (event.kind == "reset" and self._items):
            return None
        if event.kind == "token":
            said = _SAID.decode(event.data)
            if said.parts is None:
                # Where calls stand in a text that names no parts is known once it is complete.
                return b"" if self._asked.may_call else self._add(Content(said.text))
            if len(said.parts) == 1:
                return self._add(said.parts[0])
            return b"".join([self._add(part) for part in said.parts])
        if event.kind == "status" and b'"running"' in event.data:
            return self._begin()
        return b""

    def end(self, event: Event, record: Record | None) -> bytes:
        """See `Form.end`."""
        if self._void or event.kind == "reset":
            return self._broken("stream_reset", RESET)
        if record is None:
            return self._broken("job_not_found", GONE)
        return self._finish(_DECODE(record.to_json()))

    def _begin(self) -> bytes:
        """That the model is at work: told once, however many attempts there are."""
        if self._running:
            return b""
        self._running = True
        return self._event("response.in_progress", response=self._snapshot("running"))

    def _add(self, part: Part) -> bytes:
        """A piece of the answer, and before its first one the item that it belongs to."""
        text = part.arguments if isinstance(part, ToolCall) else part.text
        name = _name(part)
        item = self._by_part.get(name)
        told = b""
        if item is None:
            told = self._begin() + self._open(name, part)
            item = self._by_part[name]
        if text:
            told += self._numbered(item.delta(text))
        return told

    def _open(self, name: str, part: Part) -> bytes:
        """Add an item. What was thought or called before it is complete; what is said may go on later."""
        told = b"".join(
            self._close(item)
            for item in self._items
            if not (item.closed or isinstance(item, OpenText))
        )
        index = len(self._items)
        item: OpenItem
        match part:
            case Reasoning():
                item = OpenReasoning(self._job_id, index)
            case ToolCall():
                item = OpenCall(self._job_id, index, part)
            case _:
                item = OpenText(self._job_id, index)
        self._items.append(item)
        self._by_part[name] = item
        return told + self._numbered(item.opened())

    def _close(self, item: OpenItem, final: Item | None = None) -> bytes:
        item.closed = True
        return self._numbered(item.done(final))

    def _finish(self, job: Mapping[str, Any]) -> bytes:
        """The last events. There is none that says that a response was cancelled."""
        if job["status"] == "canceled":
            return b""
        if job["status"] != "succeeded":
            return self._failed(job)
        final = {item["id"]: item for item in documents.output_items(job)}
        told = self._begin() + self._rest(job)
        for item in self._items:
            if not item.closed:
                told += self._close(item, final.get(item.id))
        output = [final.get(item.id, item.item) for item in self._items]
        whole = documents.response(job, self._asked, output)
        return told + self._event(f"response.{whole['status']}", response=whole)

    def _rest(self, job: Mapping[str, Any]) -> bytes:
        """What the output has and no event brought: all of it where events name no parts."""
        told = b""
        message = documents.message_of(job)
        for part in parts_of(message) or [Content("")]:
            item = self._by_part.get(_name(part))
            text = part.arguments if isinstance(part, ToolCall) else part.text
            if item is None:
                told += self._add(part)
            elif not item.closed and text.startswith(item.text) and text != item.text:
                told += self._numbered(item.delta(text[len(item.text) :]))
        return told

    def _failed(self, job: Mapping[str, Any]) -> bytes:
        told = b""
        if not self._items:
            # The AI SDK asks anew for what fails before any output; this was tried as often as it may be.
            told = self._begin() + self._open("content", Content(""))
        return told + self._event("response.failed", response=documents.response(job, self._asked))

    def _snapshot(self, status: str) -> dict[str, Any]:
        return documents.unended(*self._named, status, self._asked)

    def _broken(self, code: str, detail: str) -> bytes:
        """The end of a stream that cannot go on."""
        error = stream_error(code, detail)
        return b"".join(piece("error", error=error, sequence_number=self._number)) + b"}\n\n"

    def _event(self, kind: str, **members: Any) -> bytes:
        return self._numbered(piece(kind, **members))

    def _numbered(self, pieces: Pieces) -> bytes:
        """Events with their numbers, but for those that the reader has."""
        told = b""
        for begun in pieces:
            if self._number > self._after:
                told += b'%b,"sequence_number":%d}\n\n' % (begun, self._number)
            self._number += 1
        return told


def _name(part: Part) -> str:
    """Which item a part belongs to."""
    match part:
        case Reasoning():
            return "reasoning"
        case ToolCall():
            return f"call {part.index}"
    return "content"
