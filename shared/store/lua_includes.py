"""Puts a script together: what it includes in front of its own text, constants in place of their names.

A script names the libraries that it needs in its first line, `--- include: lib/lanes, lib/rates`, and so does
a library: each comes once, behind those that it includes itself. A name in capitals stands for a constant:
one of Python's (shared/store/lua_constants.py), or one that a text spells in a line of its own, as in
`local NAME = 5`. They are written out, so that a function which uses one need not hold on to it: Redis makes
every function of a script anew at each call.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

_INCLUDES = re.compile(r"\A--- include: (?P<names>.+)\n")
_COMMENT = re.compile(r"(^|[ \t]+)--.*$", re.MULTILINE)
_VALUE = r"-?[0-9][0-9.e]*|'[^'\\\n]*'"
_CONSTANTS = re.compile(
    rf"^local (?P<names>[A-Z][A-Z_]*(?:, *[A-Z][A-Z_]*)*) = (?P<values>(?:{_VALUE})(?:, *(?:{_VALUE}))*)\n",
    re.MULTILINE,
)


def linked(path: Path, folder: Path, constants: Mapping[str, str]) -> str:
    """The whole text of the script at `path`, without comments; `folder` is where included names begin.

    Raises `OSError` where something that is included is not there, `ValueError` where a text spells a
    constant of Python's itself.
    """
    text = "\n".join(_parts(path, folder, set()))
    spelled = dict(constants)
    for match in _CONSTANTS.finditer(f"{text}\n"):
        names, values = match["names"].split(","), re.findall(_VALUE, match["values"])
        for name, value in zip(map(str.strip, names), values, strict=True):
            if name in spelled:
                raise ValueError(f"{path.name}: {name} is spelled twice")
            spelled[name] = value
    text = _CONSTANTS.sub("", f"{text}\n")
    return re.sub(r"\b[A-Z][A-Z_]*\b", lambda word: spelled.get(word[0], word[0]), text).strip()


@cache
def included(path: Path) -> list[str]:
    """The names in a text's include line."""
    found = _INCLUDES.match(path.read_text("utf-8"))
    return [name.strip() for name in found["names"].split(",")] if found else []


def _parts(path: Path, folder: Path, seen: set[Path]) -> Iterator[str]:
    for name in included(path):
        other = folder / f"{name}.lua"
        if other not in seen:
            seen.add(other)
            yield from _parts(other, folder, seen)
    yield _bare(path)


@cache
def _bare(path: Path) -> str:
    """A text without comments and empty lines."""
    text = _COMMENT.sub("", path.read_text("utf-8"))
    return "\n".join(line for line in text.splitlines() if line.strip())
