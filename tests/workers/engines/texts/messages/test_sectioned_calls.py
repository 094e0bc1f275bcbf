import pytest

from shared.domain.parts import Message
from tests.workers.engines.texts.messages.reading import SIZES, read
from workers.engines.texts.messages.forms import CALLS, Tagged

ARGUMENTS = '{"city": "Oslo", "days": [2, "}"]}'
DEEPSEEK = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"
DEEPSEEK_31 = "<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>"
KIMI = (
    "<|tool_call_begin|>functions.{name}:0<|tool_call_argument_begin|>{arguments}<|tool_call_end|>"
)
SECTIONS: dict[Tagged, tuple[str, str]] = {
    "deepseek": ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    "kimi": ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
}
WAYS: list[tuple[Tagged, str]] = [
    ("deepseek", DEEPSEEK),
    ("deepseek", DEEPSEEK_31),
    ("kimi", KIMI),
]
TOOLS = {"weather": {}, "now": {}}


def section(form: Tagged, way: str, *calls: tuple[str, str], between: str = "\n") -> str:
    begin, end = SECTIONS[form]
    made = [
        way.replace("{name}", name).replace("{arguments}", arguments) for name, arguments in calls
    ]
    return begin + between.join(made) + end


@pytest.mark.parametrize(("form", "way"), WAYS)
@pytest.mark.parametrize("between", ["", "\n"])
def test_calls_of_a_section_are_read_however_a_text_is_cut(
    form: Tagged, way: str, between: str
) -> None:
    calls = [("weather", ARGUMENTS), ("now", "{}")]
    text = f"See.\n{section(form, way, *calls, between=between)}\n So."

    found = [read(text, form, TOOLS, size) for size in SIZES]

    assert found == [("See.\n\n So.", calls)] * len(SIZES)


@pytest.mark.parametrize(("form", "way"), WAYS)
def test_what_is_no_call_of_an_offered_tool_is_content(form: Tagged, way: str) -> None:
    begin, end = SECTIONS[form]
    call = section(form, way, ("now", "{}")).removeprefix(begin).removesuffix(end)
    texts = (
        *(section(form, way, ("other", "{}")), begin, f"{begin}so", begin[:-3], call),
        *(begin + call[: call.index("{")], f"{begin}{call[:20]}{300 * 'x'}"),
    )

    for text in texts:
        assert [read(text, form, TOOLS, size) for size in SIZES] == [(text, [])] * len(SIZES)


@pytest.mark.parametrize(("form", "way"), WAYS)
def test_a_call_that_is_cut_off_stays_one(form: Tagged, way: str) -> None:
    text = section(form, way, ("weather", ARGUMENTS))
    behind = text.index(ARGUMENTS) + len(ARGUMENTS)

    for cut in range(behind, len(text)):
        assert read(text[:cut], form, TOOLS) == (None, [("weather", ARGUMENTS)])
    assert read(text[: behind - 9], form, TOOLS) == (None, [("weather", ARGUMENTS[:-9])])


@pytest.mark.parametrize(("form", "way"), WAYS)
def test_what_breaks_a_call_is_content(form: Tagged, way: str) -> None:
    content, calls = read(section(form, way, ("now", '{"a": tru3}')), form, TOOLS)

    assert calls == [("now", '{"a": tru')]
    assert content is not None
    assert content.startswith("3}")


@pytest.mark.parametrize(("form", "way"), WAYS)
def test_a_text_that_goes_on_is_told_no_part_again(form: Tagged, way: str) -> None:
    text = section(form, way, ("weather", ARGUMENTS), ("now", "{}"))
    whole = Message()
    whole.add(CALLS[form](TOOLS, str).feed(text))

    for cut in range(len(text)):
        reader, both = CALLS[form](TOOLS, str), Message()
        both.add([*reader.feed(text[:cut]), *reader.feed(text[cut:])])
        assert both.to_json() == whole.to_json()
