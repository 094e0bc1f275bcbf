"""Scripts carry what they use of the libraries, whatever way round they use it."""

import pytest

from shared.store.lua_parts import composed
from shared.store.scripts import RETENTION, scripts

LIBRARY = """\
-- What every script knows. later() is told of here alone.
local FIRST, SECOND = 1, 'two'
local TABLE = {
  'x',
}
local later, latest

local function int(n) return n end

local function outer(n)
  return int(n) + FIRST
end

local function asks(n)
  if n then rarely() return outer(n) end
end

local function unused()
  return FIRST
end

function later()
  return int(1)
end
"""


def lines(script: str) -> list[str]:
    return composed(LIBRARY, script).splitlines()


def test_what_a_used_part_uses_comes_along_in_the_order_of_the_library() -> None:
    assert lines("return outer(1)") == [
        "local function int(n) return n end",
        "local function outer(n)",
        "  return int(n) + 1",
        "end",
        "return outer(1)",
    ]


def test_a_name_that_was_declared_before_comes_with_its_declaration() -> None:
    assert lines("return later()") == [
        "local later, latest",
        "local function int(n) return n end",
        "function later()",
        "  return int(1)",
        "end",
        "return later()",
    ]


def test_constants_stand_where_they_are_used_those_of_the_script_too() -> None:
    assert lines("local MOST = 5  -- So many.\nreturn SECOND .. MOST") == ["return 'two' .. 5"]


def test_a_table_brings_all_its_lines() -> None:
    assert lines("return TABLE") == ["local TABLE = {", "  'x',", "}", "return TABLE"]


def test_comments_use_nothing_and_are_left_out() -> None:
    assert lines("-- outer(1), later()\n\nreturn 1  -- outer(1) would do") == ["return 1"]


def test_what_is_used_rarely_is_made_when_it_is_asked_for() -> None:
    script = "-- Rarely: outer\nif ARGV[1] then rarely() return outer(1) end\nreturn int(2)"

    assert lines(script) == [
        "local rarely, made, outer",
        "local function int(n) return n end",
        "function rarely()",
        "if made then return end",
        "made = true",
        "function outer(n)",
        "  return int(n) + 1",
        "end",
        "end",
        "if ARGV[1] then rarely() return outer(1) end",
        "return int(2)",
    ]


def test_what_the_library_asks_for_is_there_for_it_too() -> None:
    text = lines("-- Rarely: outer\nreturn asks(1)")
    assert text[:2] == ["local rarely, made, outer", "local function asks(n)"]
    assert "function outer(n)" in text


def test_a_script_that_has_everything_asks_for_nothing() -> None:
    assert "  if n then return outer(n) end" in lines("return asks(1)")


def test_what_was_declared_before_is_made_rarely_where_its_declaration_was() -> None:
    assert lines("-- Rarely: later\nrarely()\nreturn later()")[:4] == [
        "local rarely, made, later, latest",
        "function rarely()",
        "if made then return end",
        "made = true",
    ]


def test_what_is_no_function_is_not_made_rarely() -> None:
    with pytest.raises(ValueError, match="TABLE"):
        composed(LIBRARY, "-- Rarely: TABLE\nrarely()\nreturn TABLE")


def test_what_is_used_without_asking_is_not_made_rarely() -> None:
    with pytest.raises(ValueError, match="outer"):
        composed(LIBRARY, "-- Rarely: outer\nreturn outer(2)")
    with pytest.raises(ValueError, match="int"):
        composed(LIBRARY, "-- Rarely: int\nrarely()\nreturn outer(2)")


def test_a_short_script_is_short() -> None:
    texts = dict(scripts("truthgpt", RETENTION))
    assert "local function finish(" in texts["write"]
    assert "local function finish(" not in texts["get"]
    assert len(texts["park"]) < len(texts["write"]) / 5
