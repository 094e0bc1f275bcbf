"""What is refused without a tokenizer, and what is said of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import InputRefused
from shared.domain.requests.prompt_bounds import PromptBounds, bounds_of


def test_a_chat_is_bounded_by_what_its_template_renders() -> None:
    known = PromptBounds(8, bytes=20, roles=("user",))
    said = {"role": "user", "content": " " * 50 + "x" * 10}

    known.check_content({"messages": [said, {"role": "assistant", "content": "x" * 100}, said]})
    with pytest.raises(InputRefused) as refused:
        known.check_content({"messages": [said, said, said]})
    assert refused.value.code == "prompt_too_long"
    PromptBounds(8, bytes=20).check_content({"messages": [said] * 9})


def test_texts_of_a_list_are_bounded_one_by_one() -> None:
    known = PromptBounds(2, words=2)

    known.check_content(["a b", "c d", "  ", "…"])
    with pytest.raises(InputRefused, match="more than 2 words"):
        known.check_content(["a", "a b c"])


def test_what_is_far_too_long_is_refused_with_the_bound() -> None:
    with pytest.raises(InputRefused, match="2000000 bytes"):
        PromptBounds(512, bytes=4096).check(["x" * 2_000_000])
    with pytest.raises(InputRefused, match="more than 512 words"):
        PromptBounds(512, words=512).check(["x " * 1_000_000])


@given(st.text("aé🎉 ", max_size=30), st.integers(0, 60))
def test_bytes_are_those_of_utf_8(text: str, most: int) -> None:
    known = PromptBounds(1, bytes=most)

    if len(text.encode()) <= most:
        known.check([text])
    else:
        with pytest.raises(InputRefused):
            known.check([text])


def test_what_cannot_be_read_of_a_report_says_nothing() -> None:
    told = {"tokens": 8, "bytes": 32, "roles": ["user"]}

    assert bounds_of({"engine": {"prompt_bounds": told}}) == PromptBounds(8, 32, roles=("user",))
    for report in (
        {},
        {"engine": {}},
        {"engine": None},
        {"engine": {"prompt_bounds": {"tokens": "x"}}},
    ):
        assert bounds_of(report) is None
