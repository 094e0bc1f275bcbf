"""Scripts carry what they include, and spell nothing that Python spells too."""

import re
from pathlib import Path

import pytest

from shared.store.jobs import JobStore
from shared.store.keys import spelled_out
from shared.store.lua_constants import constants
from shared.store.lua_includes import included, linked
from shared.store.scripts import FOLDER, RETENTION, names, whole_script

KNOWN = {
    *("ARGV", "KEYS", "redis", "string", "table", "math", "struct", "cjson", "cmsgpack"),
    *("tonumber", "tostring", "type", "pairs", "ipairs", "next", "unpack", "error", "pcall"),
}
"""What every script finds in Redis."""
WORDS = {
    *(
        "and",
        "break",
        "do",
        "else",
        "elseif",
        "end",
        "false",
        "for",
        "function",
        "if",
        "in",
        "local",
    ),
    *("nil", "not", "or", "repeat", "return", "then", "true", "until", "while"),
}
FILES = sorted(FOLDER.rglob("*.lua"))
SCRIPTS = {name: whole_script(FOLDER / f"{name}.lua", "truthgpt") for name in names()}


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.lua"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_library_comes_once_behind_what_it_includes(tmp_path: Path) -> None:
    written(tmp_path, "lib/base", "local function base() return 1 end\n")
    written(tmp_path, "lib/one", "--- include: lib/base\nlocal function one() return base() end\n")
    written(tmp_path, "lib/two", "--- include: lib/base\nlocal function two() return base() end\n")
    path = written(tmp_path, "script", "--- include: lib/two, lib/one\nreturn one() + two()\n")

    assert linked(path, tmp_path, {}).splitlines() == [
        "local function base() return 1 end",
        "local function two() return base() end",
        "local function one() return base() end",
        "return one() + two()",
    ]


def test_constants_stand_where_they_are_used_and_comments_go(tmp_path: Path) -> None:
    path = written(
        tmp_path, "script", "-- A MOST.\nlocal MOST = 5  -- So many.\nreturn OURS + MOST\n"
    )
    assert linked(path, tmp_path, {"OURS": "3"}) == "return 3 + 5"


def test_a_constant_of_pythons_is_spelled_there_alone(tmp_path: Path) -> None:
    path = written(tmp_path, "script", "local OURS = 3\nreturn OURS\n")
    with pytest.raises(ValueError, match="OURS is spelled twice"):
        linked(path, tmp_path, {"OURS": "3"})


def test_what_is_not_there_cannot_be_included(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        linked(written(tmp_path, "script", "--- include: lib/nothing\nreturn 1\n"), tmp_path, {})


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_includes_all_that_it_names(name: str) -> None:
    """In Lua a name that nobody has declared is found out only when it is reached."""
    code = re.sub(r"'[^'\n]*'", "''", SCRIPTS[name])
    declared = set[str]()
    for found in re.findall(r"\blocal (?!function\b)([\w, ]+)|\bfor ([\w, ]+) (?:in|=)", code):
        declared.update(re.findall(r"\w+", " ".join(found)))
    for own, parameters in re.findall(r"\bfunction ?(\w*)\(([^)]*)\)", code):
        declared.update([own, *re.findall(r"\w+", parameters)])
    # Not fields, be they read, made in a table, or called on one.
    used = set(re.findall(r"(?<![\w.:])(?<!\.\. )[A-Za-z_]\w*(?!\w)(?! =[^=])", code))
    tables = set(re.findall(r"[{,]\s*(\w+) = ", code))
    assert used - declared - KNOWN - WORDS - tables == set()


def test_every_end_of_a_job_is_told_to_those_who_share_it() -> None:
    """`flights` is declared in endings.lua and made in flights.lua."""
    for name, text in SCRIPTS.items():
        assert ("local flights" in text) == ("\nflights = lazy(" in text), name


def test_no_number_is_spelled_twice() -> None:
    ours = constants(RETENTION)
    for path in FILES:
        spelled = re.findall(r"^ *local ([A-Z][A-Z_]*)\b", path.read_text(), re.MULTILINE)
        assert not set(spelled) & ours.keys(), path.name
    shared = {"BELL_MS", "CLAIM_FIELDS", "CLASSES", "FOLLOWERS_MAX", "LANDED_BYTES", "MAX_CRASHES"}
    for folder in ("api", "shared", "tests", "workers"):
        for path in (FOLDER.parents[2] / folder).rglob("*.py"):
            again = set(re.findall(r"^([A-Z][A-Z_]*) = ", path.read_text(), re.MULTILINE)) & shared
            assert not again or path.name in ("lua_constants.py", "states.py"), (path, again)


def test_every_library_is_included_and_every_constant_used() -> None:
    named = {name for path in FILES for name in included(path)}
    assert named == {f"lib/{path.stem}" for path in FILES if path.parent != FOLDER}
    text = "".join(path.read_text() for path in FILES)
    assert {name for name in constants(RETENTION) if not re.search(rf"\b{name}\b", text)} <= {
        "WRITE_MISSING_EVENT"
    }


def test_no_name_in_capitals_is_left() -> None:
    for name, text in SCRIPTS.items():
        code = re.sub(r"'[^'\n]*'", "''", text)
        left = set(re.findall(r"\b[A-Z][A-Z]+(?:_[A-Z]+)*\b", code)) - {"ARGV", "KEYS"}
        tables = set(re.findall(r"local ([A-Z_]+) = \{", code))
        assert left == tables & left, name


def test_what_one_call_takes_away_may_be_more_than_luas_stack_holds(
    store: JobStore, prefix: str, tmp_path: Path
) -> None:
    script = """--- include: lib/tallies
for i = 1, 9000 do
  redis.call('ZADD', KEYS[1], i, i)
  redis.call('SET', KEYS[1] .. i, i)
  leave(KEYS[1], i)
  doom(KEYS[1] .. i)
end
write_tallies()
"""
    path = written(tmp_path, "script", script)
    text = spelled_out(linked(path, FOLDER, constants(RETENTION)), prefix)
    store.redis.eval(text, 1, f"{prefix}:many")
    assert list(store.redis.scan_iter(f"{prefix}:many*", count=10_000)) == []
