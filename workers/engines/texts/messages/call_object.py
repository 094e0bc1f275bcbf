"""Follows the JSON object in which a model writes a call: its name, and its arguments as they come."""

import json
from collections.abc import Collection
from typing import Any

from workers.engines.texts.messages.json_values import JsonValue


class CallObject:
    """`{"name": …, "arguments": {…}}`, the member with the arguments being called `key`.

    `begun`: it is a call of one of `names`, and what `push` returns are its arguments, as they are written.
    Until then it may yet turn out to be none, which makes it `broken`; so does what is no JSON, also later:
    `unread` is the character that did.
    """

    def __init__(self, names: Collection[str], key: str) -> None:
        self._names = names
        self._key = key
        self._json = JsonValue()
        self._member = ""
        """What has come of the member that is being written."""
        self._arguments: str | None = None
        self._inside = False
        """In the arguments' object."""
        self._alone = False
        """The object is nothing but arguments: the name was told before it."""
        self.name: str | None = None
        self.begun = False
        self.broken = False
        self.unread = ""

    @classmethod
    def of(cls, name: str) -> "CallObject":
        """Of a call whose name is told before it: the object is its arguments."""
        call = cls((name,), "")
        call.name, call._inside, call._alone = name, True, True
        return call

    @property
    def done(self) -> bool:
        return self._json.done and not self.broken

    def push(self, char: str) -> str:
        """One character more; what of the arguments can be told now."""
        self.unread = char
        depth, in_string = self._json.depth, self._json.in_string
        self._json.push(char)
        if self._json.broken or (depth == 0 and char != "{" and not char.isspace()):
            self.broken = True
            return ""
        if self._inside:
            self._inside = self._json.depth > 1 or self._alone
            return self._told(char)
        if depth != 1:
            self._member += char if depth > 1 else ""
            return ""
        if not in_string and char in ",}":
            return self._end_member()
        if char == "{" and not in_string and self._begins_arguments():
            self._inside = True
            return self._told(char)
        self._member += char
        return ""

    def _told(self, text: str) -> str:
        """These arguments, and those that waited for the name."""
        if self.begun:
            return text
        self._arguments = (self._arguments or "") + text
        if self.name is None:
            return ""
        self.begun = True
        return self._arguments

    def _begins_arguments(self) -> bool:
        if self._arguments is not None:
            return False
        name = self._member.strip().removesuffix(":")
        return bool(json.loads(name) == self._key)

    def _end_member(self) -> str:
        member, self._member = _member(self._member), ""
        if self.name is None and "name" in member:
            self.name = member["name"]
            self.broken = not (isinstance(self.name, str) and self.name in self._names)
        self.broken = self.broken or (self._key in member and self._arguments is None)
        whole = self._json.done
        if self.broken or self.begun or not (whole or self._arguments):
            return ""
        if self.name is None:
            self.broken = whole
            return ""
        self._arguments = self._arguments or "{}"
        return self._told("")


def _member(text: str) -> dict[str, Any]:
    """A member of an object, {} where there is none, or where its value was told already."""
    if not text.strip() or text.rstrip().endswith(":"):
        return {}
    found: dict[str, Any] = json.loads("{" + text + "}")
    return found
