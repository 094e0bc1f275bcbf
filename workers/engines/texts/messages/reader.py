"""Reads one text as a message while it comes, and says what each piece adds to which part of it."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

from shared.domain.parts import Content, Message, Part, Reasoning, merged
from workers.engines.texts.messages.calls import Calls, Tools
from workers.engines.texts.messages.forms import CALLS, Tagged
from workers.engines.texts.messages.thoughts import Apart, Thoughts


class PartReader(Protocol):
    """Tells parts of a text as soon as they are decided."""

    def feed(self, text: str) -> list[Part]:
        """The parts that are decided now that the text has gone on by `text`."""

    def end(self) -> list[Part]:
        """It is over: what was held back."""


class FormReader:
    """A text in the form of its model's family. Without `tools` nothing is a call."""

    def __init__(
        self, thoughts: Thoughts, form: Tagged, tools: Tools, call_id: Callable[[int], str]
    ) -> None:
        self._thoughts = thoughts
        self._calls: Calls | None = CALLS[form](tools, call_id) if tools else None

    def feed(self, text: str) -> list[Part]:
        return self._parts(self._thoughts.feed(text))

    def end(self) -> list[Part]:
        parts = self._parts(self._thoughts.end())
        return merged([*parts, *self._calls.end()]) if self._calls is not None else parts

    def _parts(self, apart: Apart) -> list[Part]:
        parts: list[Part] = [Reasoning(apart.thought)] if apart.thought else []
        if not apart.said:
            return parts
        if self._calls is None:
            return [*parts, Content(apart.said)]
        return [*parts, *self._calls.feed(apart.said)]


class MessageReader:
    """The message that one text becomes: the sum of the parts that were told.

    `marks`: special tokens, written out, that have a meaning for it; a text does not show them.
    """

    def __init__(
        self, reader: PartReader, marks: Collection[str] = (), hidden: Collection[str] = ()
    ) -> None:
        self._reader = reader
        self._hidden = hidden
        self.marks = frozenset(marks)
        self._message = Message()
        self._ended = False

    def feed(self, text: str, spelled: str = "") -> list[Part]:
        """What a piece of text adds; `spelled` is the same with special tokens written out."""
        if self.marks and spelled and spelled != text:
            text = spelled
            for name in self._hidden:
                text = text.replace(name, "")
        return self._noted(self._reader.feed(text)) if text else []

    def end(self) -> list[Part]:
        """What was held back, once the text is over; nothing the second time."""
        if self._ended:
            return []
        self._ended = True
        return self._noted(self._reader.end())

    @property
    def message(self) -> dict[str, Any]:
        return self._message.to_json()

    def _noted(self, parts: list[Part]) -> list[Part]:
        self._message.add(parts)
        return parts
