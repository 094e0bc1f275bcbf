"""The Lua scripts of the stores, each with the functions and tables that all of them share."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from shared.events import BIRTH
from shared.keys import lua_functions
from shared.lua_parts import needed
from shared.states import lua_table
from shared.stats import GAMMA

_FOLDER = Path(__file__).parent / "lua"
_LIBRARIES = ("outbox", "lib", "flights", "breaker", "drain", "rates")


def scripts() -> Iterator[tuple[str, str]]:
    """The name and the whole text of each."""
    for path in _FOLDER.glob("*.lua"):
        if path.stem not in _LIBRARIES:
            yield path.stem, whole_script(path)


@cache
def whole_script(path: Path) -> str:
    """A script's whole text: what it uses of generated tables and shared functions, its own body."""
    library = "\n".join(
        (
            "local PREFIX, HORIZON = ARGV[1], tonumber(ARGV[2])",
            f"local TRANSITIONS = {lua_table()}",
            f"local GAMMA = {GAMMA}",
            f"local BIRTH, BORN = '{BIRTH.id}', '{BIRTH.data.decode()}'",
            lua_functions(),
            *((_FOLDER / f"{name}.lua").read_text("utf-8") for name in _LIBRARIES),
        )
    )
    body = path.read_text("utf-8")
    return f"{needed(library, body)}\n{body}"
