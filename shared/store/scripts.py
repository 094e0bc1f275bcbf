"""The Lua scripts of the stores, each with what it includes, its keys and its constants written out."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from shared.store.keys import spelled_out
from shared.store.lua_constants import constants
from shared.store.lua_includes import linked

RETENTION = 24 * 3600
"""Seconds for which an ended job is kept where nothing else is said."""
FOLDER = Path(__file__).parent / "lua"
ANY_PREFIX = "\0"
"""Stands for a prefix; no script has this character."""


def scripts(prefix: str, retention: int) -> Iterator[tuple[str, str]]:
    """The name and the whole text of each, for keys under `prefix` and jobs kept for `retention` seconds."""
    for path in sorted(FOLDER.glob("*.lua")):
        yield path.stem, whole_script(path, prefix, retention)


@cache
def whole_script(path: Path, prefix: str, retention: int = RETENTION) -> str:
    """A script's whole text. Its digest, too, depends on the prefix and the retention."""
    return _under_any(path, retention).replace(ANY_PREFIX, prefix)


@cache
def _under_any(path: Path, retention: int) -> str:
    """A script with what it includes and its keys under `ANY_PREFIX`: nearly all of what making one costs."""
    return spelled_out(linked(path, FOLDER, constants(retention)), ANY_PREFIX)
