"""Calls that stand in a section of their own, each between marks (DeepSeek, Kimi) or tags (MiniMax)."""

import re
from typing import NamedTuple

from workers.engines.texts.messages.call_markup import DSML, MINIMAX, CallMarkup, Markup
from workers.engines.texts.messages.call_object import CallObject
from workers.engines.texts.messages.calls import LONGEST_NAME, Calls, Id, Tools

FENCE = "```"


class Marks(NamedTuple):
    """What encloses a section, and a call in it; `named` matches what stands before a call's arguments."""

    section: str
    call: str
    section_end: str
    call_end: str = ""
    separator: str = ""
    named: re.Pattern[str] = re.compile("")

    @property
    def words(self) -> tuple[str, ...]:
        """The marks alone."""
        return tuple(word for word in self[:-1] if isinstance(word, str) and word)


DEEPSEEK = Marks(
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    re.compile(
        r"\s*(?:function<｜tool▁sep｜>([\w.-]{1,64})\s*```(?:json)?|([\w.-]{1,64})<｜tool▁sep｜>)\s*"
    ),
)
"""`function<｜tool▁sep｜>name`, and the arguments in a fence (V3, R1), or `name<｜tool▁sep｜>{…}` (V3.1)."""
KIMI = Marks(
    "<|tool_calls_section_begin|>",
    "<|tool_call_begin|>",
    "<|tool_calls_section_end|>",
    "<|tool_call_end|>",
    "<|tool_call_argument_begin|>",
    re.compile(r"\s*(?:functions\.)?([\w.-]{1,64}?)(?::\d+)?\s*<\|tool_call_argument_begin\|>\s*"),
)
"""`functions.name:0<|tool_call_argument_begin|>{…}` (Kimi K2)."""
MINIMAX_SECTION = Marks("<minimax:tool_call>", "<invoke", "</minimax:tool_call>")
"""`<invoke name="name"><parameter name="key">value</parameter>…</invoke>` (MiniMax M2)."""
DSML_SECTION = Marks("<｜DSML｜function_calls>", "<｜DSML｜invoke", "</｜DSML｜function_calls>")
"""`<｜DSML｜invoke name="name">…`, whose parameters that are no JSON have `string="true"` (DeepSeek V3.2)."""


class SectionedCalls(Calls):
    """The section's mark, calls, and the mark of its end; content around it."""

    MARKS: Marks

    def __init__(self, tools: Tools, call_id: Id) -> None:
        super().__init__(tools, call_id)
        self._inside = False
        """In a section, behind one of its calls at least."""
        self._ending = False
        """Behind a call's arguments, before the mark of its end."""

    @property
    def _closing(self) -> bool:
        held = self._held.strip()
        return self._inside and (self._ending or self.MARKS.section_end.startswith(held))

    def _look(self) -> bool:
        if self._ending:
            return self._end_call()
        if self._inside:
            return self._next(self._held)
        return self._find(self.MARKS.section) and self._next(
            self._held.removeprefix(self.MARKS.section)
        )

    def _next(self, held: str) -> bool:
        """A call, or the end of the section, at the beginning of what is held."""
        start, marks = held.lstrip(), self.MARKS
        if self._inside and start.startswith(marks.section_end):
            self._inside = False
            self._held = start.removeprefix(marks.section_end)
            return True
        if not start.startswith(marks.call):
            ways = (marks.call, marks.section_end) if self._inside else (marks.call,)
            return not any(way.startswith(start) for way in ways) and self._refuse()
        return self._begin_call(start)

    def _begin_call(self, start: str) -> bool:
        """What is held ends with `start`, which begins with the mark of a call."""
        marks = self.MARKS
        named, brace, _ = start.removeprefix(marks.call).partition("{")
        if not brace:
            return len(named) > LONGEST_NAME and self._refuse()
        found = marks.named.fullmatch(named)
        name = next(filter(None, found.groups()), "") if found else ""
        if name not in self._tools:
            return self._refuse()
        before = self._held[: self._held.index("{")]
        return self._open(before, self._held[len(before) :], CallObject.of(name))

    def _end_call(self) -> bool:
        """Leave out the fence and the mark that end a call."""
        rest, end = self._held.lstrip(), self.MARKS.call_end
        bare = rest.removeprefix(FENCE).lstrip()
        if not bare.startswith(end) and (end.startswith(bare) or FENCE.startswith(rest)):
            return False
        self._ending = False
        if bare.startswith(end):
            self._held = bare.removeprefix(end)
        return True

    def _refuse(self) -> bool:
        self._failed(self._held)
        return True

    def _closed(self) -> None:
        self._inside = self._ending = True

    def _broke(self) -> None:
        self._inside = self._ending = False

    def _failed(self, text: str) -> None:
        mark = self.MARKS.call if self._inside else self.MARKS.section
        self._inside = False
        place = text.index(mark) + len(mark) if mark in text else 0
        self._content(text[:place])
        self._held = text[place:]


class DeepSeekCalls(SectionedCalls):
    MARKS = DEEPSEEK


class KimiCalls(SectionedCalls):
    MARKS = KIMI


class InvokedCalls(SectionedCalls):
    """A section of calls whose arguments stand between tags."""

    MARKUP: Markup

    def _begin_call(self, start: str) -> bool:
        before = self._held[: len(self._held) - len(start)]
        return self._open(before, start, CallMarkup(self._tools, self.MARKUP))

    def _closed(self) -> None:
        self._inside = True


class MiniMaxCalls(InvokedCalls):
    MARKS, MARKUP = MINIMAX_SECTION, MINIMAX


class DSMLCalls(InvokedCalls):
    MARKS, MARKUP = DSML_SECTION, DSML
