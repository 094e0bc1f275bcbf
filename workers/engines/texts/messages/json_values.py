"""Follows a JSON value character by character, as RFC 8259 has it."""

import re

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
_NUMBER_BEGUN = re.compile(r"-?((0|[1-9]\d*)(\.\d*)?((?<=\d)[eE][+-]?\d*)?)?")
_LITERALS = ("true", "false", "null")
_BLANKS = " \t\n\r"
_ESCAPED = '"\\/bfnrt'
_HEX = "0123456789abcdefABCDEF"


class JsonValue:
    """One value. `broken`: what has come can be no beginning of JSON; `done`: it is whole.

    `depth` is how many objects and lists are open. Only objects, lists and strings are `done` by themselves;
    what ends a number inside them is what follows it.
    """

    def __init__(self) -> None:
        self.broken = False
        self.done = False
        self._open: list[str] = []
        self._wants = "value"
        """value, value or ], name, name or }, colon, more (a comma or the end), in a string or in a word."""
        self._word = ""
        self._escape = ""
        self._is_name = False

    @property
    def depth(self) -> int:
        return len(self._open)

    @property
    def in_string(self) -> bool:
        return self._wants == "string"

    def push(self, char: str) -> None:
        """One character more; none may come once the value is done or broken."""
        if self._wants == "string":
            self._in_string(char)
        elif self._wants == "word" and not self._ends_word(char):
            self._word += char
            self.broken = not _begins_word(self._word)
        elif not self.broken and char not in _BLANKS:
            self._structure(char)

    def _in_string(self, char: str) -> None:
        if self._escape:
            self._escape += char
            unicode = self._escape.startswith("\\u")
            self.broken = char not in (_HEX if len(self._escape) > 2 else _ESCAPED + "u")
            if not unicode or len(self._escape) == 6:
                self._escape = ""
        elif char == "\\":
            self._escape = char
        elif char == '"':
            self._wants = "colon" if self._is_name else "more"
            self.done = not self._open
        else:
            self.broken = char < " "

    def _ends_word(self, char: str) -> bool:
        """Whether a number or literal is over before this character."""
        if char not in _BLANKS and char not in ",]}":
            return False
        self.broken = not (self._word in _LITERALS or _NUMBER.fullmatch(self._word))
        self._wants = "more"
        return True

    def _structure(self, char: str) -> None:
        wants, inside = self._wants, self._open[-1] if self._open else ""
        if char == '"' and wants.startswith(("value", "name")):
            self._wants, self._is_name = "string", wants.startswith("name")
        elif char in "{[" and wants.startswith("value"):
            self._open.append(char)
            self._wants = "name or end" if char == "{" else "value or end"
        elif char == ":" and wants == "colon":
            self._wants = "value"
        elif char == "," and wants == "more" and inside:
            self._wants = "name" if inside == "{" else "value"
        elif char == {"{": "}", "[": "]"}.get(inside) and (
            wants == "more" or wants.endswith("end")
        ):
            self._open.pop()
            self._wants, self.done = "more", not self._open
        elif wants.startswith("value") and _begins_word(char):
            self._wants, self._word = "word", char
        else:
            self.broken = True


def _begins_word(text: str) -> bool:
    return any(word.startswith(text) for word in _LITERALS) or bool(_NUMBER_BEGUN.fullmatch(text))
