import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.parts import Content, Message, ToolCall
from tests.workers.engines.texts.messages.reading import SIZES, read
from workers.engines.texts.messages.forms import CALLS, Tagged

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "units": {"anyOf": [{"$ref": "#/$defs/units"}, {"type": "null"}]},
        "where": {},
    },
    "$defs": {"units": {"enum": ["C", "F"]}},
}
TOOLS = {"weather": WEATHER, "now": {}}
QWEN = "<tool_call>\n<function=weather>\n{}</function>\n</tool_call>"
GLM = "<tool_call>weather\n{}</tool_call>"


def qwen(**arguments: str) -> str:
    """A call as Qwen3-Coder's template writes it."""
    lines = [f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in arguments.items()]
    return QWEN.format("".join(lines))


def glm(**arguments: str) -> str:
    """A call as GLM 4.5's template writes it."""
    lines = [
        f"<arg_key>{name}</arg_key>\n<arg_value>{value}</arg_value>\n"
        for name, value in arguments.items()
    ]
    return GLM.format("".join(lines))


WAYS = {"qwen": qwen, "glm": glm}
Q = qwen(city="Oslo", days="2")
CASES: list[tuple[str, str | None, list[tuple[str, str]]]] = [
    (f"See.\n{Q}\n{Q} So.", "See.\n\n So.", 2 * [("weather", '{"city": "Oslo", "days": 2}')]),
    (f"{glm(city='Oslo')}\n{glm()}", None, [("weather", '{"city": "Oslo"}'), ("weather", "{}")]),
    ("<tool_call>now</tool_call> Hm", "Hm", [("now", "{}")]),
    ("<tool_call><function=now></function></tool_call>", None, [("now", "{}")]),
    # Several forms beside one another, whatever a template has shown.
    (f'{Q}<tool_call>{{"name": "now"}}</tool_call>{glm(days="2")}', None,
     [("weather", '{"city": "Oslo", "days": 2}'), ("now", "{}"), ("weather", '{"days": 2}')]),
    # A value's own lines stay, and so does what only looks like a tag.
    (qwen(city="\n a\n\tb</param\n"), None, [("weather", r'{"city": "\n a\n\tb</param\n"}')]),
    (glm(city="1 <arg_value 2"), None, [("weather", '{"city": "1 <arg_value 2"}')]),
    # What is no call of an offered tool is content.
    *((text, text, []) for text in (
        "<tool_call>other\n</tool_call>", "<tool_call><function=other>\n</function></tool_call>",
        "<tool_call>now it is</tool_call>", "<tool_call><function=now>so</function></tool_call>",
        "<tool_call>now<arg_value>", "<tool_call>now", "<tool_call><function=now", "<tool_call>\n<",
        f"<tool_call>{300 * 'x'}", f"<tool_call><function={300 * 'x'}",
    )),
    # Cut off behind its beginning it stays a call, and what was cut off is no content.
    (Q[: Q.index("slo")], None, [("weather", '{"city": "O')]),
    (Q[: Q.index("ter>\n<parameter=days")], None, [("weather", '{"city": "Oslo')]),
    (Q[: Q.index("<parameter=days")], None, [("weather", '{"city": "Oslo"')]),
    (glm(days="25")[:-25], None, [("weather", "{")]),
    # What breaks it is content, and what was told of it is JSON.
    (Q.replace("<parameter=days", "<days"), '<days>\n2\n</parameter>\n</function>\n</tool_call>',
     [("weather", '{"city": "Oslo"}')]),
    (QWEN.format(f"<parameter={300 * 'k'}").removesuffix("</function>\n</tool_call>"),
     f"<parameter={300 * 'k'}", [("weather", "{}")]),
]  # fmt: skip


def minimax(**arguments: str) -> str:
    """A call as MiniMax M2's template writes it."""
    lines = [f'<parameter name="{name}">{value}</parameter>\n' for name, value in arguments.items()]
    return f'<invoke name="weather">\n{"".join(lines)}</invoke>\n'


def dsml(**arguments: str) -> str:
    """A call as DeepSeek V3.2 writes it, `city` as a string and all else as JSON."""
    lines = [
        f'<｜DSML｜parameter name="{name}" string="{"true" if name == "city" else "false"}">{value}'
        "</｜DSML｜parameter>\n"
        for name, value in arguments.items()
    ]
    return f'<｜DSML｜invoke name="weather">\n{"".join(lines)}</｜DSML｜invoke>\n'


INVOKED: dict[Tagged, tuple[Any, str, str]] = {
    "minimax": (minimax, "<minimax:tool_call>\n", "</minimax:tool_call>"),
    "dsml": (dsml, "<｜DSML｜function_calls>\n", "</｜DSML｜function_calls>"),
}


@pytest.mark.parametrize("form", INVOKED)
def test_calls_of_a_section_with_tags_are_read_however_a_text_is_cut(form: Tagged) -> None:
    way, begin, end = INVOKED[form]
    one, two = way(city=" 7\n</param", days="2", where='{"a": [1]}'), way(units="C")
    text = f"See.\n{begin}{one}{two}{way()}{end}\nSo."
    calls = [r'{"city": " 7\n</param", "days": 2, "where": {"a": [1]}}', '{"units": "C"}', "{}"]

    found = [read(text, form, TOOLS, size) for size in SIZES]

    assert found == [("See.\n\nSo.", [("weather", call) for call in calls])] * len(SIZES)


@pytest.mark.parametrize("form", INVOKED)
def test_what_is_no_call_in_a_section_with_tags_is_content(form: Tagged) -> None:
    way, begin, end = INVOKED[form]
    call = way(city="Oslo")
    texts = (
        *(f"{begin}{call.replace('weather', 'other')}{end}", begin.strip(), f"{begin}so", call),
        *(begin + call[:12], f"{begin}{call.replace('weather', 300 * 'x')}", begin + "<invoked>"),
    )

    for text in texts:
        assert [read(text, form, TOOLS, size) for size in SIZES] == [(text, [])] * len(SIZES)


@pytest.mark.parametrize("form", INVOKED)
def test_a_call_in_a_section_with_tags_that_is_cut_off_stays_one(form: Tagged) -> None:
    way, begin, _ = INVOKED[form]
    call = way(city="Oslo")

    assert read(begin + call[: call.index("slo")], form, TOOLS) == (
        *(None, [("weather", '{"city": "O')]),
    )


def test_a_string_of_dsml_is_one_whatever_the_tools_schema_says() -> None:
    text = dsml(city="Oslo").replace('"city"', '"days"').replace("Oslo", "5")

    assert read(f"<｜DSML｜function_calls>{text}", "dsml", TOOLS) == (
        *(None, [("weather", '{"days": "5"}')]),
    )


@pytest.mark.parametrize(("text", "content", "calls"), CASES)
def test_calls_are_read_however_a_text_is_cut(
    text: str, content: str | None, calls: list[tuple[str, str]]
) -> None:
    found = [read(text, "hermes", TOOLS, size) for size in SIZES]

    assert found == [(content, calls)] * len(SIZES)


@pytest.mark.parametrize("way", WAYS)
@given(city=st.text(st.characters(codec="utf-8")), size=st.integers(1, 9))
def test_a_text_is_the_argument_that_it_was(way: str, city: str, size: int) -> None:
    _, [(name, arguments)] = read(WAYS[way](city=city), "hermes", TOOLS, size)

    assert (name, json.loads(arguments)) == ("weather", {"city": city})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("name", "value", "read_as"),
    [
        ("days", "3", 3),
        ("days", "three", "three"),
        ("city", "3", "3"),
        ("city", '"Oslo"', '"Oslo"'),
        ("units", "C", "C"),
        ("units", "null", None),
        ("units", "None", None),
        ("where", '{"lat": [1, 2.5]}', {"lat": [1, 2.5]}),
        ("where", "True", True),
        ("where", "Oslo", "Oslo"),
        ("unknown", "[1]", [1]),
        ("unknown", "NaN", "NaN"),
        ("unknown", "[" * 5000, "[" * 5000),
    ],
)
def test_a_value_has_the_type_that_the_tool_declares(
    way: str, name: str, value: str, read_as: Any
) -> None:
    _, [(_, arguments)] = read(WAYS[way](**{name: value}), "hermes", TOOLS)

    assert json.loads(arguments) == {name: read_as}


def test_a_text_is_told_as_it_comes() -> None:
    calls = CALLS["hermes"](TOOLS, lambda number: f"call_{number}")
    pieces = (
        *("Hm <tool_call>\n<function=weather>\n", "<parameter=city>\nOs", "lo</p", "\n</parameter"),
        *(">\n<parameter=days>\n2", "\n</parameter>\n", "</function>\n</tool_call>"),
    )

    assert [calls.feed(piece) for piece in pieces] == [
        [Content("Hm")],
        [ToolCall(0, '{"city": "Os', "call_0", "weather")],
        [ToolCall(0, "lo")],
        [ToolCall(0, "</p")],
        [ToolCall(0, '"')],
        [ToolCall(0, ', "days": 2')],
        [ToolCall(0, "}")],
    ]


@pytest.mark.parametrize("text", [Q, glm(city="Oslo", days="2")])
def test_a_text_that_goes_on_is_told_no_part_again(text: str) -> None:
    whole = Message()
    whole.add(CALLS["hermes"](TOOLS, str).feed(text))

    for cut in range(len(text)):
        reader, both = CALLS["hermes"](TOOLS, str), Message()
        both.add([*reader.feed(text[:cut]), *reader.feed(text[cut:])])
        assert both.to_json() == whole.to_json()
