"""Reads what models of gpt-oss' form write: messages of one answer, each behind a header.

`<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…<|return|>`. The channel
`analysis` is what was thought, `final` and `commentary` are what is said, and a message
`to=functions.name` is a call of that tool.
"""

import re
from typing import Literal

from shared.domain.parts import Content, Part, Reasoning, ToolCall, merged
from workers.engines.texts.messages.call_object import CallObject
from workers.engines.texts.messages.calls import Id, Tools
from workers.engines.texts.stop_strings import begun

START, CHANNEL, MESSAGE, CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
ENDS = ("<|end|>", "<|call|>", "<|return|>")
HARMONY = (START, CHANNEL, CONSTRAIN, MESSAGE, *ENDS)
LONGEST_HEADER = 256
"""Characters in front of a message. What is longer is none, but content."""
_BEGINNINGS = (START, CHANNEL, MESSAGE, "to=")
_RECIPIENT = re.compile(r"\bto=functions\.([\w.-]{1,64})")
_ANALYSIS = re.compile(r"<\|channel\|>\s*analysis\b")


class HarmonyReader:
    """A `PartReader` of one text. `prompt` is the end of its prompt, special tokens written out: the header
    of the first message has begun there.
    """

    def __init__(self, tools: Tools, call_id: Id, prompt: str = "") -> None:
        self._tools = tools
        self._id = call_id
        self._count = 0
        self._held = ""
        """What has come and is not decided."""
        self._body: Literal["", "content", "reasoning", "call"] = ""
        """What the message that is being read is; "" in a header."""
        self._said = {"content": "", "reasoning": ""}
        """What stands before the next message of a kind: a line's end, once there was one."""
        self._call = CallObject((), "")
        self._unsure = ""
        """What has come of a message to a tool before its arguments began."""
        self._told = False
        """Something of the message was told."""
        self._header, opened, _ = prompt.rpartition(START)[2].partition(MESSAGE)
        """What of a header stands in the prompt."""
        if opened:
            self._open()

    def feed(self, text: str) -> list[Part]:
        """See `PartReader`."""
        self._held += text
        told: list[Part] = []
        while self._step(told):
            pass
        return merged(told)

    def end(self) -> list[Part]:
        """See `PartReader`."""
        told: list[Part] = []
        cut = START in self._held or CHANNEL in self._held or begun(self._held, HARMONY)
        if self._body:
            self._tell(self._held, told)
            self._end_body(told)
        elif self._held.strip() and not cut:
            told.append(Content(self._held))
        self._held = ""
        return merged(told)

    def _step(self, told: list[Part]) -> bool:
        """Go on with what is held. False once only more text can decide."""
        return self._read_body(told) if self._body else self._read_header()

    def _read_header(self) -> bool:
        header, found, rest = self._held.partition(MESSAGE)
        if not self._may_be_header() or len(header) > LONGEST_HEADER:
            self._body = "content"
            return True
        if found:
            self._header, self._held = self._header + header, rest
            self._open()
        return bool(found)

    def _may_be_header(self) -> bool:
        start = self._held.lstrip()
        return CHANNEL in self._header or any(
            start.startswith(way) or way.startswith(start) for way in _BEGINNINGS
        )

    def _open(self) -> None:
        """A header is whole: a message begins."""
        name = _RECIPIENT.search(self._header)
        if name is not None and name[1] in self._tools:
            self._body, self._call, self._unsure = "call", CallObject.of(name[1]), ""
        else:
            thought = name is None and _ANALYSIS.search(self._header)
            self._body = "reasoning" if thought else "content"
        self._header, self._told = "", False

    def _read_body(self, told: list[Part]) -> bool:
        marks = (START, *ENDS)
        places = [place for mark in marks if (place := self._held.find(mark)) >= 0]
        if not places:
            place = len(self._held) - begun(self._held, marks)
            self._tell(self._held[:place], told)
            self._held = self._held[place:]
            return False
        place = min(places)
        self._tell(self._held[:place], told)
        self._end_body(told)
        rest = self._held[place:]
        # A message whose end is missing ends where the next one begins.
        self._held = rest if rest.startswith(START) else rest[rest.index("|>") + 2 :]
        return True

    def _tell(self, text: str, told: list[Part]) -> None:
        """A piece of the message that is being read."""
        if not text:
            return
        if self._body == "call":
            self._tell_call(text, told)
            return
        before, self._said[self._body] = self._said[self._body], ""
        self._told = True
        told.append((Reasoning if self._body == "reasoning" else Content)(before + text))

    def _tell_call(self, text: str, told: list[Part]) -> None:
        for place, char in enumerate(text):
            name = "" if self._call.begun else self._call.name or ""
            blank = char.isspace() and not self._call.begun
            arguments = "" if self._call.done or blank else self._call.push(char)
            if self._call.broken:
                self._break_call(text[place:], told)
                return
            if arguments:
                identity = self._id(self._count) if name else ""
                told.append(ToolCall(self._count, arguments, identity, name))
            self._unsure = "" if self._call.begun else self._unsure + char

    def _break_call(self, rest: str, told: list[Part]) -> None:
        """What is no JSON is content, and so is what stood before it, if no argument has begun."""
        self._count += self._call.begun
        told.append(Content(self._unsure + rest))
        self._unsure, self._body = "", "content"

    def _end_body(self, told: list[Part]) -> None:
        if self._body in self._said:
            if self._told:
                self._said[self._body] = "\n"
        elif self._call.begun:
            self._count += 1
        elif self._unsure:
            told.append(Content(self._unsure))
        self._body = ""
