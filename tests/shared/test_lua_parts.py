"""Scripts carry what they use of the libraries, whatever way round they use it."""

import pytest

from shared.lua_parts import needed
from shared.scripts import scripts

LIBRARY = """\
-- What every script knows. later() is told of here alone.
local PREFIX = ARGV[1]
key['job'] = function(a0) return PREFIX .. a0 end
key['log'] = function(a0) return PREFIX .. a0 end
local FIRST, SECOND = 1, 2
local TABLE = {
  'x',
}
local later

local function int(n) return n end

local function outer(n)
  return int(n) + FIRST
end

local function unused()
  return key.log('x')
end

function later()
  return key.job('x')
end
"""


def parts(script: str) -> list[str]:
    return [
        line for line in needed(LIBRARY, script).splitlines() if not line.startswith((" ", "end"))
    ]


def test_what_a_used_part_uses_comes_along_in_the_order_of_the_library() -> None:
    assert parts("return outer(1)") == [
        "local FIRST, SECOND = 1, 2",
        "local function int(n) return n end",
        "local function outer(n)",
    ]


def test_a_name_that_was_declared_before_comes_with_its_declaration() -> None:
    assert parts("return later()") == [
        "local PREFIX = ARGV[1]",
        "key['job'] = function(a0) return PREFIX .. a0 end",
        "local later",
        "function later()",
    ]


def test_one_of_several_names_brings_the_line_and_a_table_all_its_lines() -> None:
    assert parts("return SECOND") == ["local FIRST, SECOND = 1, 2"]
    assert needed(LIBRARY, "return TABLE") == "local TABLE = {\n  'x',\n}"


def test_comments_use_nothing() -> None:
    assert parts("-- outer(1), later()\nreturn 1") == []


def test_a_comment_behind_a_line_uses_nothing() -> None:
    assert parts("return 1  -- outer(1) would do") == []


def test_what_is_used_rarely_is_made_when_it_is_asked_for() -> None:
    script = "-- Rarely: outer\nif ARGV[1] then rarely() return outer(1) end\nreturn int(2)"

    assert needed(LIBRARY, script).splitlines() == [
        "local function int(n) return n end",
        "local outer",
        "local function rarely()",
        "local FIRST, SECOND = 1, 2",
        "function outer(n)",
        "  return int(n) + FIRST",
        "end",
        "end",
    ]


def test_what_is_no_local_function_is_not_made_rarely() -> None:
    with pytest.raises(ValueError, match="later"):
        needed(LIBRARY, "-- Rarely: later\nreturn later()")


def test_what_is_used_all_the_same_is_not_made_rarely() -> None:
    with pytest.raises(ValueError, match="int"):
        needed(LIBRARY, "-- Rarely: int\nreturn outer(2)")


def test_a_short_script_is_short() -> None:
    texts = dict(scripts())
    assert "local function finish(" in texts["write"]
    assert "local function finish(" not in texts["get"]
    assert len(texts["park"]) < len(texts["write"]) / 5
