"""Takes what was thought apart from what is said, while a text comes."""

from typing import NamedTuple

from workers.engines.texts.stop_strings import begun

TAGS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"))
"""How models enclose thoughts. The first where a chat template shows none of them."""


class Apart(NamedTuple):
    """What a piece of text adds to both."""

    thought: str = ""
    said: str = ""


class Thoughts:
    """Of one text, which begins with its thoughts or has none. `thinking`: the prompt has opened their tag.

    Newlines at both ends of the thoughts and behind them belong to nothing.
    """

    def __init__(self, tags: tuple[str, str], *, thinking: bool) -> None:
        self._open, self._close = tags
        self._held = ""
        self._state = "thinking" if thinking else "start"
        self._blank = True
        """Nothing of the thoughts, or of what follows them, has come yet."""

    def feed(self, text: str) -> Apart:
        self._held += text
        thought = ""
        if self._state == "start":
            self._begin()
        if self._state == "thinking":
            thought = self._think()
        return Apart(thought, self._say())

    def end(self) -> Apart:
        """The text is over: what was held back, for it might have become a tag."""
        held, self._held = self._held, ""
        if self._state == "thinking":
            return Apart(held if held.strip("\n") else "")
        return Apart("", held)

    def _begin(self) -> None:
        start = self._held.lstrip()
        if start.startswith(self._open):
            self._held, self._state = start.removeprefix(self._open), "thinking"
        elif not self._open.startswith(start):
            self._state = "saying"

    def _think(self) -> str:
        if self._blank:
            self._held = self._held.lstrip("\n")
        thought, closed, rest = self._held.partition(self._close)
        if closed:
            self._held, self._state, self._blank = rest, "spacing", True
            return thought.rstrip("\n")
        unsure = len(self._held) - begun(self._held, (self._close,))
        told = self._held[:unsure].rstrip("\n")
        self._held = self._held[len(told) :]
        self._blank = self._blank and not told
        return told

    def _say(self) -> str:
        if self._state == "spacing":
            self._held = self._held.lstrip("\n")
            self._state = "saying" if self._held else "spacing"
        if self._state != "saying":
            return ""
        said, self._held = self._held, ""
        return said
