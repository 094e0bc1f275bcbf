"""The Lua scripts of the stores, each with the functions and tables that it shares with others."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from shared.domain.events import CREATED
from shared.domain.schemas import MAX_EXPIRES_IN
from shared.domain.states import lua_moves
from shared.store.keys import spelled_out
from shared.store.lua_parts import composed
from shared.store.stats import GAMMA

RETENTION = 24 * 3600
"""Seconds for which an ended job is kept where nothing else is said."""
STEPS = 64
"""In how many steps what ended jobs hold is counted as gone, one after the other."""
_FOLDER = Path(__file__).parent / "lua"
_LIBRARIES = ("storage", "outputs", "outbox", "lib", "flights", "breaker", "drain", "rates")


def scripts(prefix: str, retention: int) -> Iterator[tuple[str, str]]:
    """The name and the whole text of each, for keys under `prefix` and jobs kept for `retention` seconds."""
    for path in _FOLDER.glob("*.lua"):
        if path.stem not in _LIBRARIES:
            yield path.stem, whole_script(path, prefix, retention)


@cache
def whole_script(path: Path, prefix: str, retention: int = RETENTION) -> str:
    """A script's whole text: what it uses of constants and shared functions, its own body."""
    library = "\n".join(
        (
            f"local HORIZON = '{2 * (MAX_EXPIRES_IN + retention)}'",
            f"local RETENTION, GRID = {retention}, {max(1, retention // STEPS)}",
            f"local MOVES = '{lua_moves()}'",
            f"local GAMMA = {GAMMA}",
            f"local CREATED, BORN = '{CREATED.id}', '{CREATED.data.decode()}'",
            *((_FOLDER / f"{name}.lua").read_text("utf-8") for name in _LIBRARIES),
        )
    )
    return spelled_out(composed(library, path.read_text("utf-8")), prefix)
