"""Finds calls of tools in what a model says, in the forms of the families, while the text comes.

Nothing is told before it is decided. A call is one once its name is that of a tool that was offered and the
object of its arguments has begun; up to there it may turn out to be content. From there on its arguments are
told as they are written, and it stays a call: what would break them is content again, and where the text is
cut they are cut too, as OpenAI's are.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from shared.domain.parts import Content, Part, ToolCall, merged
from shared.grammars.calls import ARGUMENTS, CLOSE, MARK, OPEN, Form
from workers.engines.texts.messages.call_markup import CallMarkup
from workers.engines.texts.messages.call_object import CallObject
from workers.engines.texts.stop_strings import begun

PYTHON = "<|python_tag|>"
ARGS, CALL_ID = "[ARGS]", "[CALL_ID]"
_NAMED = re.compile(r"\s*([\w.-]{1,64})(?:\[CALL_ID\]\w*)?(?:\[ARGS\])?\s*")
LONGEST_NAME = 256
"""Characters between the mark of a call and its arguments."""

Id = Callable[[int], str]
"""The id of a text's n-th call."""
Tools = Mapping[str, Mapping[str, Any]]
"""The JSON schema of each offered function's arguments, by its name."""
Call = CallObject | CallMarkup


class Calls(ABC):
    """The calls of one text, and its content: all that is no call, without blanks next to a call."""

    FORM: Form

    def __init__(self, tools: Tools, call_id: Id) -> None:
        self._tools = tools
        self._id = call_id
        self._count = 0
        self._held = ""
        """What has come and is not looked at yet, or not decided."""
        self._call: Call | None = None
        self._before = ""
        """What stands before the call that is not decided, and is content with it if it is none."""
        self._blanks = ""
        self._said = False
        self._told: list[Part] = []

    def feed(self, text: str) -> list[Part]:
        self._held += text
        while self._scan() if self._call is not None else self._look():
            pass
        return self._take()

    def end(self) -> list[Part]:
        """The parts that are decided by the text's end: what was held back is content now."""
        if self._call is not None:
            self._held = "" if self._call.begun else self._before + self._held
        elif self._closing:
            self._held = ""
        self._content(self._held)
        if not self._count and self._blanks:
            self._told.append(Content(self._blanks))
        return self._take()

    @abstractmethod
    def _look(self) -> bool:
        """Look for a call in what is held. False once only more text can decide."""

    @abstractmethod
    def _closed(self) -> None:
        """A call is complete; what follows it is held."""

    @abstractmethod
    def _failed(self, text: str) -> None:
        """What began as a call is none: this is all of it, with what follows."""

    def _broke(self) -> None:  # noqa: B027 - most forms have nothing to do
        """A call has ended in what is no JSON; that, and what follows it, is held."""

    @property
    def _closing(self) -> bool:
        """Whether what is held can be nothing but the end of a call."""
        return False

    def _take(self) -> list[Part]:
        told, self._told = merged(self._told), []
        return told

    def _open(self, before: str, held: str, call: Call | None = None) -> bool:
        """What is held may be a call now."""
        self._call = call or CallObject(self._tools, ARGUMENTS[self.FORM])
        self._before, self._held = before, held
        return True

    def _scan(self) -> bool:
        """Go on with the call that is open. False once only more text can."""
        call = self._call
        assert call is not None
        begun, told, place = call.begun, "", 0
        while place < len(self._held) and not (call.broken or call.done):
            told += call.push(self._held[place])
            place += 1
        seen, self._held = self._held[:place], self._held[place:]
        if told:
            self._tell_call(told, "" if begun else call.name or "")
        self._before = "" if call.begun else self._before + seen
        if not (call.broken or call.done):
            return False
        self._call = None
        if call.done:
            self._count += 1
            self._closed()
        elif call.begun:
            self._count += 1
            self._held = call.unread + self._held
            self._broke()
        else:
            self._failed(self._before + self._held)
        return True

    def _tell_call(self, arguments: str, name: str) -> None:
        identity = self._id(self._count) if name else ""
        self._told.append(ToolCall(self._count, arguments, identity, name))

    def _content(self, text: str) -> None:
        """Tell content. Blanks at its end wait for what follows: next to a call they belong to nothing."""
        text = self._blanks + text
        said = text.rstrip()
        self._blanks = text[len(said) :]
        if self._count and not self._said:
            said = said.lstrip()
        if said:
            self._said = True
            self._told.append(Content(said))

    def _find(self, mark: str) -> bool:
        """Tell content up to a mark, or to what may begin one. Whether the mark is there; it is then held."""
        place = self._held.find(mark)
        found = place >= 0
        if not found:
            place = len(self._held) - begun_mark(self._held, mark)
        self._content(self._held[:place])
        self._held = self._held[place:]
        return found


class TaggedCalls(Calls):
    """`<tool_call>…</tool_call>`, anywhere in a text. Inside is `{"name": …, "arguments": …}` (Hermes, Qwen),
    or what `CallMarkup` follows (Qwen3-Coder, GLM).
    """

    FORM = "hermes"

    def __init__(self, tools: Tools, call_id: Id) -> None:
        super().__init__(tools, call_id)
        self._in_tag = False

    @property
    def _closing(self) -> bool:
        return self._in_tag

    def _look(self) -> bool:
        if self._in_tag:
            rest = self._held.lstrip()
            if CLOSE.startswith(rest):
                return False if rest != CLOSE else self._close("")
            return self._close(rest.removeprefix(CLOSE) if rest.startswith(CLOSE) else self._held)
        if not self._find(OPEN):
            return False
        inside = self._held.removeprefix(OPEN)
        start = inside.lstrip()
        call = CallMarkup(self._tools) if start and not start.startswith("{") else None
        return bool(start) and self._open(OPEN, inside, call)

    def _close(self, rest: str) -> bool:
        self._in_tag, self._held = False, rest
        return True

    def _closed(self) -> None:
        self._in_tag = True

    def _failed(self, text: str) -> None:
        self._content(OPEN)
        self._held = text.removeprefix(OPEN)


class BareCalls(Calls):
    """`{"name": …, "parameters": …}`, one or more of them, as all of a text (Llama)."""

    FORM = "llama"

    def __init__(self, tools: Tools, call_id: Id) -> None:
        super().__init__(tools, call_id)
        self._plain = False
        """What follows is content, whatever it looks like."""

    @property
    def _closing(self) -> bool:
        return bool(self._count) and not self._held.strip("; \n")

    def _look(self) -> bool:
        if self._plain:
            self._content(self._held)
            self._held = ""
            return False
        rest = self._held.lstrip("; \n" if self._count else None)
        if not self._count and PYTHON.startswith(rest[: len(PYTHON)]):
            if len(rest) < len(PYTHON):
                return False
            rest = rest.removeprefix(PYTHON).lstrip()
        if not rest:
            return False
        if rest.startswith("{"):
            return self._open(self._held[: -len(rest)], rest)
        self._plain = True
        return True

    def _closed(self) -> None:
        pass

    def _broke(self) -> None:
        self._plain = True

    def _failed(self, text: str) -> None:
        self._held, self._plain = text, True


class MarkedCalls(Calls):
    """`[TOOL_CALLS] [{"name": …, "arguments": …}, …]`, or `[TOOL_CALLS]name[ARGS]{…}` (Mistral)."""

    FORM = "mistral"

    def __init__(self, tools: Tools, call_id: Id) -> None:
        super().__init__(tools, call_id)
        self._in_list = False

    @property
    def _closing(self) -> bool:
        return self._in_list and self._held.strip() in ("", ",")

    def _look(self) -> bool:
        if self._in_list:
            return self._next()
        if not self._find(MARK):
            return False
        rest = self._held.removeprefix(MARK)
        start = rest.lstrip()
        if start.startswith("["):
            if not start[1:].lstrip():
                return False
            self._in_list = True
            return self._open(self._held[: -len(start[1:])], start[1:])
        name, brace, _ = rest.partition("{")
        if not brace and len(rest) < LONGEST_NAME:
            return False
        found = _NAMED.fullmatch(name) if brace else None
        if found is None or found[1] not in self._tools:
            self._failed(self._held)
            return True
        call = CallObject.of(found[1])
        return self._open(MARK + name, self._held[len(MARK + name) :], call)

    def _next(self) -> bool:
        """Behind a call of a list."""
        rest = self._held.lstrip()
        if rest.startswith(","):
            start = rest[1:].lstrip()
            return bool(start) and self._open(self._held[: -len(start)], start)
        if rest:
            self._in_list = False
            self._held = rest.removeprefix("]") if rest.startswith("]") else self._held
        return bool(rest)

    def _closed(self) -> None:
        pass

    def _broke(self) -> None:
        self._in_list = False

    def _failed(self, text: str) -> None:
        self._in_list = False
        mark = MARK if text.startswith(MARK) else ""
        self._content(mark)
        self._held = text.removeprefix(mark)


def begun_mark(text: str, mark: str) -> int:
    """How many characters at the end of a text may begin a mark."""
    return begun(text, (mark,))
