"""The items of an answer while it is streamed: each is added, told in pieces, and done."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import msgspec

from api.openai.responses.documents import call_item, message_item, reasoning_item, text_part
from api.openai.responses.items import Item
from shared.domain.events import one_line
from shared.domain.parts import ToolCall

Pieces = Iterable[bytes]
"""Events, each as it is sent but for its end: the brace of its data, before which its number comes."""
_ENCODER = msgspec.json.Encoder()


class OpenItem(ABC):
    """One item. `index` is its place in the output."""

    DELTA: str

    def __init__(self, item: Item, index: int) -> None:
        self.item = item
        """The item's document: without content until it is done."""
        self.id: str = item["id"]
        self.closed = False
        self._index = index
        self._texts: list[str] = []
        # What stands before a text: it ends where the empty text would be.
        self._delta = piece(self.DELTA, **self._place, delta="")[0][:-2]

    @property
    def text(self) -> str:
        """What has been told of it."""
        return "".join(self._texts)

    def opened(self) -> Pieces:
        """The event that tells of the item, with nothing in it yet."""
        return piece("response.output_item.added", output_index=self._index, item=self.item)

    def delta(self, text: str) -> Pieces:
        """The event that tells of more of the item's text."""
        self._texts.append(text)
        return (self._delta + one_line(_ENCODER.encode(text)) + self.MORE,)

    MORE = b""
    """What stands behind the text of a delta."""

    def done(self, final: Item | None) -> Pieces:
        """The events that tell of the item's end: as `final` has it, else as it was told so far."""
        self.item = final or self._whole()
        return (
            *self._ended(),
            *piece("response.output_item.done", output_index=self._index, item=self.item),
        )

    @property
    def _place(self) -> dict[str, Any]:
        """The members of an event that say which item, and which part of it, a text belongs to."""
        return {"item_id": self.id, "output_index": self._index}

    @abstractmethod
    def _whole(self) -> Item:
        """All of it, as it was told."""

    @abstractmethod
    def _ended(self) -> Pieces:
        """The events that end its text."""


class OpenPart(OpenItem):
    """An item with its text in a part of it."""

    DONE: str

    @property
    def _place(self) -> dict[str, Any]:
        return {**super()._place, "content_index": 0}

    def opened(self) -> Pieces:
        """See `OpenItem.opened`."""
        added = piece("response.content_part.added", **self._place, part=self._part(""))
        return (*super().opened(), *added)

    def _ended(self) -> Pieces:
        part = self.item["content"][0]
        return (
            *piece(
                self.DONE, **self._place, **{k: part[k] for k in ("text", "logprobs") if k in part}
            ),
            *piece("response.content_part.done", **self._place, part=part),
        )

    @abstractmethod
    def _part(self, text: str) -> dict[str, Any]: ...


class OpenText(OpenPart):
    """The message of a response that is being made."""

    DELTA, DONE = "response.output_text.delta", "response.output_text.done"
    MORE = b',"logprobs":[]'

    def __init__(self, job_id: str, index: int) -> None:
        self._job_id = job_id
        super().__init__(message_item(job_id, None), index)

    def _part(self, text: str) -> dict[str, Any]:
        return text_part(text)

    def _whole(self) -> Item:
        return message_item(self._job_id, self.text)


class OpenReasoning(OpenPart):
    """The reasoning of a response that is being made."""

    DELTA, DONE = "response.reasoning_text.delta", "response.reasoning_text.done"

    def __init__(self, job_id: str, index: int) -> None:
        self._job_id = job_id
        super().__init__(reasoning_item(job_id, None), index)

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "reasoning_text", "text": text}

    def _whole(self) -> Item:
        return reasoning_item(self._job_id, self.text)


class OpenCall(OpenItem):
    """A call of a function. Its name and id are known when it begins."""

    DELTA = "response.function_call_arguments.delta"

    def __init__(self, job_id: str, index: int, call: ToolCall) -> None:
        self._call = (job_id, call.index, call.id, call.name)
        super().__init__(call_item(*self._call, "", "in_progress"), index)

    def _whole(self) -> Item:
        return call_item(*self._call, self.text)

    def _ended(self) -> Pieces:
        named = {"name": self.item["name"], "arguments": self.item["arguments"]}
        return piece("response.function_call_arguments.done", **self._place, **named)


def piece(kind: str, **members: Any) -> list[bytes]:
    """One event of a response, but for the brace at its end."""
    data = one_line(_ENCODER.encode({"type": kind, **members}))[:-1]
    return [b"event: %b\ndata: %b" % (kind.encode(), data)]
