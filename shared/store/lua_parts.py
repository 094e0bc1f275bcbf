"""Which parts of the shared Lua a script needs: Redis makes every function of a script anew at each call.

The libraries in shared/lua keep to one form: what stands at the margin begins a part (`local function`,
`local NAME =`, `function NAME` of a name declared before), what is indented or closes it belongs to it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_DEFINES = re.compile(
    r"local function (?P<local>\w+)|function (?P<declared>\w+)|local (?P<names>\w+(?:, *\w+)*)"
)
_NAMES = re.compile(r"[A-Za-z_]\w*")
_COMMENT = re.compile(r"(^|[ \t]+)--([ \t].*|$)", re.MULTILINE)
_RARELY = re.compile(r"^-- Rarely: (?P<names>.+(?:\n--  +.+)*)$", re.MULTILINE)
_CALLS_RARELY = re.compile(r"\brarely\(\)[ ;]?")
_DECLARES = re.compile(r"local \w+(?:, *\w+)*")
_VALUE = r"-?[0-9][0-9.e]*|'[^'\\\n]*'"
_CONSTANTS = re.compile(
    rf"local (?P<names>[A-Z][A-Z_]*(?:, *[A-Z][A-Z_]*)*) = (?P<values>(?:{_VALUE})(?:, *(?:{_VALUE}))*)\n",
)


def composed(library: str, script: str) -> str:
    """A script behind the parts of `library` that it uses, without comments, its constants filled in.

    Functions that a script names in a line `-- Rarely: one, another` it has only once it, or a part of the
    library, has called `rarely()`; until then neither these nor what they alone use are made. Raises
    `ValueError` where one is used that was not asked for.
    """
    named = _RARELY.search(script)
    later = frozenset(_NAMES.findall(named["names"])) if named else frozenset()
    parts = [_Part(text, frozenset(_defined(text)), _used(text)) for text in _split(library)]
    body = _bare(script)
    now = _reached(parts, _used(body), later)
    for text in (*(parts[number].text for number in now), body):
        if (unasked := later & _used(text)) and "rarely()" not in text:
            raise ValueError(f"uses {', '.join(sorted(unasked))} without rarely(): {text[:80]}")
    rest = _reached(parts, _used(body), frozenset()) - now
    texts = [parts[number].text for number in sorted(now)]
    if not rest:
        return _filled_in(_CALLS_RARELY.sub("", "\n".join((*texts, body))))
    made = [parts[number] for number in sorted(rest)]
    known = frozenset[str]().union(*(parts[number].defines for number in now))
    names = _asked_for(made, later) - known
    return _filled_in("\n".join((_declaration(names), *texts, *_made_rarely(made, names), body)))


class _Part(NamedTuple):
    text: str
    defines: frozenset[str]
    uses: frozenset[str]


def _reached(parts: list[_Part], used: frozenset[str], without: frozenset[str]) -> set[int]:
    """What is used, and used by that, and so on, but for the way through some names."""
    taken: set[int] = set()
    used -= without
    grows = True
    while grows:
        grows = False
        for number, part in enumerate(parts):
            if number not in taken and (not part.defines or part.defines & used):
                taken.add(number)
                used |= part.uses - without
                grows = True
    return taken


def _asked_for(made: list[_Part], later: frozenset[str]) -> frozenset[str]:
    """What must be declared where everybody sees it."""
    ahead = [part.defines for part in made if _DECLARES.fullmatch(part.text)]
    defined = frozenset[str]().union(*(part.defines for part in made))
    return (later & defined).union(*ahead)


def _declaration(names: frozenset[str]) -> str:
    return f"local rarely, made, {', '.join(sorted(names))}"


def _made_rarely(made: list[_Part], names: frozenset[str]) -> Iterator[str]:
    """The function that makes what may be asked for, once."""
    yield "function rarely()"
    yield "if made then return end"
    yield "made = true"
    for part in made:
        if _DECLARES.fullmatch(part.text):
            continue
        if not part.defines & names:
            yield part.text
        elif part.text.startswith(("local function ", "function ")):
            yield part.text.removeprefix("local ")
        else:
            raise ValueError(f"only a function may be made rarely: {', '.join(part.defines)}")
    yield "end"


def _filled_in(text: str) -> str:
    """Constants in place of their names: a function that uses one need not hold on to it."""
    constants: dict[str, str] = {}
    for match in _CONSTANTS.finditer(text):
        names, values = match["names"].split(","), re.findall(_VALUE, match["values"])
        constants.update((name.strip(), value) for name, value in zip(names, values, strict=True))
    text = _CONSTANTS.sub("", text)
    return re.sub(r"\b[A-Z][A-Z_]*\b", lambda word: constants.get(word[0], word[0]), text)


def _bare(text: str) -> str:
    """Without comments and empty lines."""
    return "\n".join(line for line in _COMMENT.sub("", text).splitlines() if line.strip())


def _split(library: str) -> Iterator[str]:
    part: list[str] = []
    for line in _bare(library).splitlines():
        if not line.startswith((" ", "end", "}", ")")) and part:
            yield "\n".join(part)
            part = []
        part.append(line)
    if part:
        yield "\n".join(part)


def _defined(part: str) -> Iterator[str]:
    match = _DEFINES.match(part)
    if match is not None:
        yield from re.split(", *", match["local"] or match["declared"] or match["names"])


def _used(text: str) -> frozenset[str]:
    """Names in strings count as uses, so that more may come than is needed, and never less."""
    return frozenset(_NAMES.findall(text))
