"""Follows a call whose arguments stand between tags, and writes them as JSON while they come."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from workers.engines.texts.messages.argument_types import STRING, as_json, types_of
from workers.engines.texts.stop_strings import begun

LONGEST_NAME = 256
"""Characters of a function's or an argument's name, with what stands around it."""
_NAME_CHARACTERS = frozenset("-._")


class Markup(NamedTuple):
    """How a family encloses a call. The name of the function stands behind `opening`; where `name_end` is
    empty, the first tag ends it. `line`: a value stands on lines of its own. `quoted`: the name of an
    argument ends with a quotation mark, and `string="true"` or `"false"` behind it says whether its value is
    JSON.
    """

    opening: str
    name_end: str
    key: str
    key_end: str
    value: str
    value_end: str
    end: str
    line: bool = False
    quoted: bool = False


QWEN = Markup("<function=", ">", "<parameter=", ">", "", "</parameter>", "</function>", line=True)
GLM = Markup("", "", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "</tool_call>")
MINIMAX = Markup(
    '<invoke name="', '">', '<parameter name="', ">", "", "</parameter>", "</invoke>", quoted=True
)
DSML = Markup(
    *('<｜DSML｜invoke name="', '">', '<｜DSML｜parameter name="', ">", ""),
    *("</｜DSML｜parameter>", "</｜DSML｜invoke>"),
    quoted=True,
)


class CallMarkup:
    """`<function=name><parameter=key>value</parameter>…</function>` (Qwen3-Coder), or
    `name<arg_key>key</arg_key><arg_value>value</arg_value>…</tool_call>` (GLM 4.5), or what `markup` says.

    `tools` has the JSON schema of each function's arguments, by its name: a value that must be a text is told
    as it comes; one that may be something else is told once it is whole. `begun`: it is a call of one of the
    tools, and what `push` returns is the JSON of its arguments. `broken`: what has come is no such call, or
    no more of it; `unread` is what it has not told of that.
    """

    def __init__(
        self, tools: Mapping[str, Mapping[str, Any]], markup: Markup | None = None
    ) -> None:
        self._tools = tools
        self._markup = markup or QWEN
        self._known = markup is not None
        self._read: Callable[[], str] = self._opening
        self._key = ""
        self._types: frozenset[str] = frozenset()
        self._members = 0
        self.unread = ""
        self.name: str | None = None
        self.begun = False
        self.broken = False
        self.done = False

    def push(self, char: str) -> str:
        """One character more; what of the arguments can be told now."""
        self.unread += char
        told = self._read()
        # What was told of its arguments becomes JSON.
        return told + "}" if self.broken and self.begun else told

    def _opening(self) -> str:
        start = self.unread.lstrip()
        if start.startswith(self._markup.opening):
            self._go_on(self._name)
        elif start and not self._markup.opening.startswith(start):
            if self._known:
                self.broken = True
                return ""
            self._markup = GLM
            self._read = self._name
            return self._name()
        return ""

    def _name(self) -> str:
        end = self._markup.name_end or "<"
        name, ended, _ = self.unread.partition(end)
        if not ended:
            name = name[: len(name) - begun(name, (end,))]
            self.broken = not _may_be_name(name)
            return ""
        self.name = name.strip()
        self.broken = self.name not in self._tools
        # The tag that has ended the name is still to be read.
        self._go_on(self._next, "" if self._markup.name_end else "<")
        return ""

    def _next(self) -> str:
        """Another argument, or the end."""
        start, markup = self.unread.lstrip(), self._markup
        if start == markup.key:
            self._go_on(self._argument)
            return self._begin("{")
        if start == markup.end:
            self.done, self.unread = True, ""
            return self._begin("{") + "}"
        self.broken = not (markup.key.startswith(start) or markup.end.startswith(start))
        return ""

    def _begin(self, told: str) -> str:
        if self.begun:
            return ""
        self.begun = True
        return told

    def _argument(self) -> str:
        key, ended, _ = self.unread.partition(self._markup.key_end)
        if not ended:
            if len(key) > LONGEST_NAME:
                self.broken, self.unread = True, self._markup.key + key
            return ""
        self._key, _, said = key.partition('"') if self._markup.quoted else (key.strip(), "", "")
        self._types = types_of(self._tools[self.name or ""], self._key)
        if said:
            self._types = STRING if 'string="true"' in said else self._types - STRING
        self._go_on(self._before_value)
        # A value whose tag is empty begins here.
        return self._before_value() if not self._markup.value else ""

    def _before_value(self) -> str:
        start = self.unread.lstrip() if self._markup.value else ""
        if start != self._markup.value:
            self.broken = not self._markup.value.startswith(start)
            return ""
        self._go_on(self._first)
        return ""

    def _first(self) -> str:
        """The first character of a value."""
        self._read = self._value
        if self._markup.line and self.unread == "\n":
            self.unread = ""
        if self._types != STRING:
            return self._value()
        return self._member() + '"' + self._value()

    def _member(self) -> str:
        comma = ", " if self._members else ""
        self._members += 1
        return f"{comma}{_quoted(self._key)}: "

    def _value(self) -> str:
        end = self._markup.value_end
        whole = self.unread.endswith(end)
        if self._types == STRING:
            return self._of_text(whole, end)
        if not whole:
            return ""
        value = self.unread.removesuffix(end)
        if self._markup.line:
            value = value.removesuffix("\n")
        self._go_on(self._next)
        return self._member() + as_json(value, self._types)

    def _of_text(self, whole: bool, end: str) -> str:
        ends = (end, "\n" + end) if self._markup.line else (end,)
        if not whole:
            kept = begun(self.unread, ends)
            told = self.unread[: len(self.unread) - kept]
            self.unread = self.unread[len(told) :]
            return _quoted(told)[1:-1]
        told = self.unread.removesuffix(end)
        if self._markup.line:
            told = told.removesuffix("\n")
        self._go_on(self._next)
        return _quoted(told)[1:-1] + '"'

    def _go_on(self, read: Callable[[], str], unread: str = "") -> None:
        self._read, self.unread = read, self.unread if self.broken else unread


def _may_be_name(text: str) -> bool:
    """Whether a text may become a name, with blanks around it."""
    name = text.strip()
    inside = all(char.isalnum() or char in _NAME_CHARACTERS for char in name)
    return inside and len(text) <= LONGEST_NAME


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
