"""Which parts of the shared Lua a script needs: Redis makes every function of a script anew at each call.

The libraries in shared/lua keep to one form: what stands at the margin begins a part (`local function`,
`local NAME =`, `function NAME` of a name declared before), what is indented or closes it belongs to it.
"""

import re
from collections.abc import Iterator

_DEFINES = re.compile(
    r"local function (?P<local>\w+)|function (?P<declared>\w+)|local (?P<names>\w+(?:, *\w+)*)|"
    r"key\['(?P<key>\w+)'\]"
)
_NAMES = re.compile(r"key\.\w+|[A-Za-z_]\w*")


def needed(library: str, script: str) -> str:
    """The parts of `library`, in their order, that `script` uses, or a part that it uses, and so on.

    Names in strings count as uses, so that more may come than is needed, and never less.
    """
    parts = [(part, set(_defined(part)), _used(part)) for part in _split(library)]
    wanted = _used(script)
    taken: set[int] = set()
    grows = True
    while grows:
        grows = False
        for number, (_, defined, used) in enumerate(parts):
            if number not in taken and (not defined or defined & wanted):
                taken.add(number)
                wanted |= used
                grows = True
    return "\n".join(parts[number][0] for number in sorted(taken))


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


def _used(text: str) -> set[str]:
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    used = set(_NAMES.findall("\n".join(lines)))
    return used | {"key"} if any(name.startswith("key.") for name in used) else used
