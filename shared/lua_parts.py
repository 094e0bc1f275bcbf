"""Which parts of the shared Lua a script needs: Redis makes every function of a script anew at each call.

The libraries in shared/lua keep to one form: what stands at the margin begins a part (`local function`,
`local NAME =`, `function NAME` of a name declared before), what is indented or closes it belongs to it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_DEFINES = re.compile(
    r"local function (?P<local>\w+)|function (?P<declared>\w+)|local (?P<names>\w+(?:, *\w+)*)|"
    r"key\['(?P<key>\w+)'\]"
)
_NAMES = re.compile(r"key\.\w+|[A-Za-z_]\w*")
_COMMENT = re.compile(r"(^|\s)--(\s.*|$)", re.MULTILINE)
_RARELY = re.compile(r"^-- Rarely: (?P<names>.+)$", re.MULTILINE)


def needed(library: str, script: str) -> str:
    """The parts of `library`, in their order, that `script` uses, or a part that it uses, and so on.

    Names in strings count as uses, so that more may come than is needed, and never less.

    Functions that a script names in a line `-- Rarely: one, another` it has only once it has called
    `rarely()`; until then neither these nor what they alone use are made.
    """
    parts = [_Part(text, frozenset(_defined(text)), _used(text)) for text in _split(library)]
    used = _used(script)
    named = _RARELY.search(script)
    later = frozenset(_NAMES.findall(named["names"])) if named else frozenset()
    now = _reached(parts, used - later)
    texts = [parts[number].text for number in sorted(now)]
    if later:
        if soon := later & {name for n in now for name in parts[n].defines}:
            raise ValueError(f"is used before rarely() too: {', '.join(sorted(soon))}")
        made = [_assigned(parts[n], later) for n in sorted(_reached(parts, used) - now)]
        texts += [f"local {', '.join(sorted(later))}", "local function rarely()", *made, "end"]
    return "\n".join(texts)


class _Part(NamedTuple):
    text: str
    defines: frozenset[str]
    uses: frozenset[str]


def _reached(parts: list[_Part], used: frozenset[str]) -> set[int]:
    taken: set[int] = set()
    grows = True
    while grows:
        grows = False
        for number, part in enumerate(parts):
            if number not in taken and (not part.defines or part.defines & used):
                taken.add(number)
                used |= part.uses
                grows = True
    return taken


def _assigned(part: _Part, later: frozenset[str]) -> str:
    if not part.defines & later:
        return part.text
    if not part.text.startswith("local function "):
        raise ValueError(f"only a local function may be made rarely: {', '.join(part.defines)}")
    return part.text.removeprefix("local ")


def _split(library: str) -> Iterator[str]:
    part: list[str] = []
    for line in library.splitlines():
        if not line.strip() or line.lstrip().startswith("--"):
            continue
        if not line.startswith((" ", "end", "}", ")")) and part:
            yield "\n".join(part)
            part = []
        part.append(line)
    if part:
        yield "\n".join(part)


def _defined(part: str) -> Iterator[str]:
    match = _DEFINES.match(part)
    if match is None:
        return
    if match["key"]:
        yield f"key.{match['key']}"
    else:
        yield from re.split(", *", match["local"] or match["declared"] or match["names"])


def _used(text: str) -> frozenset[str]:
    used = set(_NAMES.findall(_COMMENT.sub("", text)))
    return frozenset(used | {"key"} if any(name.startswith("key.") for name in used) else used)
