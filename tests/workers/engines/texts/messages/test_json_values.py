import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.engines.texts.messages.json_values import JsonValue

VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def follow(text: str) -> tuple[bool, bool, int]:
    """Whether it was done, whether it broke, and after how many characters."""
    value = JsonValue()
    for place, char in enumerate(text, 1):
        value.push(char)
        if value.done or value.broken:
            return value.done, value.broken, place
    return value.done, value.broken, len(text)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), VALUES), st.booleans(), st.sampled_from([None, 2]))
def test_what_json_writes_is_a_value_at_its_last_character(
    value: dict, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)

    assert follow(text + " tail") == (True, False, len(text))


@pytest.mark.parametrize(
    "text",
    [
        *('{"a":01}', '{"a":1.}', '{"a":-}', '{"a":.5}', '{"a":1e}', '{"a":tru}', '{"a" 1}'),
        *('{"a":1,}', "{a:1}", "[1,]", "[1}", '["\\x"]', '["\\u12g4"]', '["a\nb"]', "[1 2]"),
        *("[,]", "]", '{"a":1]', '{"a"}', "[--1]", "[1.2.3]", "[1e5e5]"),
    ],
)
def test_what_is_no_json_breaks_where_json_does(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)

    assert follow(text)[:2] == (False, True)


def test_a_number_that_is_none_is_no_json() -> None:
    """Python's own reader takes it."""
    assert follow('{"a":NaN}')[:2] == (False, True)


@given(st.text(alphabet='{}[]",:\\ue0123.-+ truefalsn\n', max_size=12))
def test_it_takes_what_json_takes(text: str) -> None:
    wrapped = "[" + text + "]"
    try:
        json.loads(wrapped)
    except json.JSONDecodeError:
        assert follow(wrapped) != (True, False, len(wrapped))
    else:
        assert follow(wrapped) == (True, False, len(wrapped))
