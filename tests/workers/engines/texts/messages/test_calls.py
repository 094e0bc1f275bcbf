import json
from typing import Any

import pytest

from shared.domain.parts import Content, Message, ToolCall
from shared.grammars.calls import Form
from tests.workers.engines.texts.messages.reading import SIZES, read
from workers.engines.texts.messages.forms import CALLS

ARGUMENTS = '{"city": "Oslo", "days": [2, "}"]}'
FORMS: tuple[Form, ...] = ("hermes", "llama", "mistral")
SPELLED = {
    "hermes": f'<tool_call>\n{{"name": "weather", "arguments": {ARGUMENTS}}}\n</tool_call>',
    "llama": f'{{"name": "weather", "parameters": {ARGUMENTS}}}',
    "mistral": f'[TOOL_CALLS] [{{"name": "weather", "arguments": {ARGUMENTS}}}]',
}
NOW = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
TOOLS: dict[str, dict[str, Any]] = {"weather": {}, "now": {}}


CASES: list[tuple[Form, str, str | None, list[tuple[str, str]]]] = [
    *((form, SPELLED[form], None, [("weather", ARGUMENTS)]) for form in FORMS),
    # Words around calls stay, blanks next to them go.
    ("hermes", f"See.\n{SPELLED['hermes']}\n{NOW}", "See.", [("weather", ARGUMENTS), ("now", "{}")]),
    ("hermes", f"{NOW}\n\nDone. \n", "Done.", [("now", "{}")]),
    ("hermes", f"a {NOW} b", "a  b", [("now", "{}")]),
    ("hermes", " no call\n", " no call\n", []),
    # In another order, and with members that nobody asked for.
    ("hermes", '<tool_call>{"arguments": {"a": 1}, "id": 7, "name": "now"}', None, [("now", '{"a": 1}')]),
    ("hermes", '<tool_call>{"name": "now"}</tool_call>', None, [("now", "{}")]),
    # What is no call of an offered tool is content.
    *(
        ("hermes", f"<tool_call>{text}</tool_call>", f"<tool_call>{text}</tool_call>", [])
        for text in (
            *("\nno JSON\n", '{"name": "other", "arguments": {}}', '{"name": "now", "arguments": 7}'),
            *('{"name": 7, "arguments": {}}', "[]", '{"name": "now"'),
        )
    ),
    ("hermes", f"<tool_call>{NOW}", "<tool_call>", [("now", "{}")]),
    ("llama", '{"weather": "fine"}', '{"weather": "fine"}', []),
    ("llama", f"So: {SPELLED['llama']}", f"So: {SPELLED['llama']}", []),
    ("mistral", '[TOOL_CALLS] [{"name": "other"}] x', '[TOOL_CALLS] [{"name": "other"}] x', []),
    ("mistral", "[TOOL_CALLS]other[ARGS]{}", "[TOOL_CALLS]other[ARGS]{}", []),
    # So is one that is cut off before its arguments, and the beginning of a tag.
    ("hermes", SPELLED["hermes"][:40], SPELLED["hermes"][:40], []),
    ("hermes", "See <tool", "See <tool", []),
    ("llama", '{"name": "weather", "par', '{"name": "weather", "par', []),
    ("llama", "<|python", "<|python", []),
    ("mistral", "[TOOL_CALLS] [", "[TOOL_CALLS] [", []),
    ("mistral", "[TOOL_CALLS]weath", "[TOOL_CALLS]weath", []),
    # From there on it stays a call, and is cut with the text.
    ("hermes", SPELLED["hermes"][:60], None, [("weather", ARGUMENTS[:15])]),
    ("hermes", SPELLED["hermes"][:-5], None, [("weather", ARGUMENTS)]),
    ("llama", SPELLED["llama"][:-1], None, [("weather", ARGUMENTS)]),
    ("mistral", SPELLED["mistral"][:-1], None, [("weather", ARGUMENTS)]),
    # What breaks it is content again.
    ("hermes", '<tool_call>{"name": "now", "arguments": {"a": tru3}} end', '3}} end', [("now", '{"a": tru')]),
    ("hermes", f"{NOW[:-12]} or {NOW}", "or", 2 * [("now", "{}")]),
    # Several, and other spellings.
    ("llama", f"<|python_tag|>{SPELLED['llama']}; {SPELLED['llama']}\n", None, 2 * [("weather", ARGUMENTS)]),
    ("llama", f"{SPELLED['llama']} Fine.", "Fine.", [("weather", ARGUMENTS)]),
    ("mistral", '[TOOL_CALLS] [{"name":"now"} , {"name":"now"}] so', "so", 2 * [("now", "{}")]),
    ("mistral", "[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]now[CALL_ID]x1[ARGS]{}", None, 2 * [("now", "{}")]),
]  # fmt: skip


@pytest.mark.parametrize(("form", "text", "content", "calls"), CASES)
def test_calls_are_read_however_a_text_is_cut(
    form: Form, text: str, content: str | None, calls: list[tuple[str, str]]
) -> None:
    assert [read(text, form, TOOLS, size) for size in SIZES] == [(content, calls)] * len(SIZES)


@pytest.mark.parametrize("form", FORMS)
def test_a_text_that_goes_on_is_told_no_part_again(form: Form) -> None:
    """As an attempt does that takes up another one's text, wherever that has ended."""
    text = f"{SPELLED[form]}; {SPELLED[form]}\n"
    whole = CALLS[form]({"weather": {}}, str).feed(text)

    for cut in range(len(text)):
        reader = CALLS[form]({"weather": {}}, str)
        before = reader.feed(text[:cut])
        after = reader.feed(text[cut:])
        both, expected = Message(), Message()
        both.add([*before, *after])
        expected.add(whole)
        assert both.to_json() == expected.to_json()


def test_a_name_is_told_before_its_arguments_which_come_as_they_are_written() -> None:
    calls = CALLS["hermes"]({"weather": {}}, lambda number: f"call_{number}")

    told = [
        calls.feed(piece)
        for piece in (
            "Hm <too",
            "l_call>{",
            '"name": "weather", "argu',
            'ments": {"ci',
            'ty": "Oslo"',
            "}",
            "}</tool_call> ",
        )
    ]

    assert told == [
        [Content("Hm")],
        [],
        [],
        [ToolCall(0, '{"ci', "call_0", "weather")],
        [ToolCall(0, 'ty": "Oslo"')],
        [ToolCall(0, "}")],
        [],
    ]
    assert calls.end() == []


def test_escapes_in_names_are_read() -> None:
    text = json.dumps({"name": "now", "arguments": {"é": "\u2028"}}).replace(
        '"name"', '"n\\u0061me"'
    )

    assert read(f"<tool_call>{text}</tool_call>", "hermes", TOOLS)[1][0][0] == "now"


def test_a_long_call_is_read_once() -> None:
    """Not from its beginning with every piece."""
    body: dict[str, Any] = {"name": "now", "arguments": {"text": "x" * 50_000}}

    [(name, arguments)] = read(f"<tool_call>{json.dumps(body)}</tool_call>", "hermes", TOOLS, 4)[1]

    assert name == "now"
    assert json.loads(arguments) == body["arguments"]
