"""The Lua scripts of the stores, each with what it includes, its keys and its constants written out."""

from functools import cache
from pathlib import Path

from redis import Redis
from redis.commands.core import Script

from shared.store.keys import spelled_out
from shared.store.lua_constants import constants
from shared.store.lua_includes import linked

RETENTION = 24 * 3600
"""Seconds for which an ended job is kept where nothing else is said."""
FOLDER = Path(__file__).parent / "lua"
ANY_PREFIX = "\0"
"""Stands for a prefix; no script has this character."""


class Scripts(dict[str, Script]):
    """Scripts by their names, for keys under `prefix` and jobs kept for `retention` seconds.

    Each is put together when it is first asked for: a process calls few of them, and all together would take
    longer than the rest of a store. Raises `OSError` for a name that no script has.
    """

    def __init__(self, redis: Redis, prefix: str, retention: int) -> None:
        super().__init__()
        self._redis = redis
        self._prefix = prefix
        self._retention = retention

    def __missing__(self, name: str) -> Script:
        text = whole_script(FOLDER / f"{name}.lua", self._prefix, self._retention)
        script = self[name] = self._redis.register_script(text)
        return script


def names() -> list[str]:
    """The names of all scripts."""
    return sorted(path.stem for path in FOLDER.glob("*.lua"))


@cache
def whole_script(path: Path, prefix: str, retention: int = RETENTION) -> str:
    """A script's whole text. Its digest, too, depends on the prefix and the retention."""
    return _under_any(path, retention).replace(ANY_PREFIX, prefix)


@cache
def _under_any(path: Path, retention: int) -> str:
    """A script with what it includes and its keys under `ANY_PREFIX`: nearly all of what making one costs."""
    return spelled_out(linked(path, FOLDER, constants(retention)), ANY_PREFIX)
