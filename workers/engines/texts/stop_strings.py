"""Finds stop strings in a text, and beginnings of them at its end."""

from collections.abc import Iterable


def first_stop(text: str, stops: Iterable[str]) -> int | None:
    """Where the stop string that is complete first begins; of several, the longest."""
    ends = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    return min(ends)[1] if ends else None


def begun(text: str, stops: Iterable[str]) -> int:
    """How many characters at the end of `text` may begin a stop string.

    Looks only where a stop string's first character stands: it is asked for every token.
    """
    longest = 0
    for stop in stops:
        at = text.find(stop[0], max(0, len(text) - len(stop) + 1))
        while at >= 0 and not stop.startswith(text[at:]):
            at = text.find(stop[0], at + 1)
        longest = max(longest, len(text) - at if at >= 0 else 0)
    return longest
