"""References within a JSON schema: JSON pointers in the fragment of a URI (RFC 6901, section 6)."""

from collections.abc import Collection
from urllib.parse import quote, unquote

from shared.grammars.refusal import Place


def path_of(reference: str) -> str:
    """The JSON pointer of `#` or `#/…`, whether or not its characters are written as `%41`."""
    return unquote(reference.removeprefix("#"))


def encoded(path: str) -> str:
    """A reference to a JSON pointer that every reader of URIs takes."""
    return "#" + quote(path, safe="/~$!&'()*+,;=:@")


def target(path: str, lists: Collection[str]) -> Place:
    """The place in a schema that a JSON pointer leads to. `lists`: keywords whose schemas have numbers."""
    place: list[str | int] = []
    for part in path.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        in_list = bool(place) and place[-1] in lists and name.isascii() and name.isdigit()
        place.append(int(name) if in_list else name)
    return tuple(place)
