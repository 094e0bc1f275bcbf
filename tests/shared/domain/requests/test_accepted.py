"""What one model can make use of, told without it."""

from typing import Any

import msgspec
import pytest

from shared.domain.errors import InputRefused
from shared.domain.requests.accepted import Accepted, accepted_by

USER = {"role": "user", "content": "hi"}
CALLS = {"role": "assistant", "content": None, "tool_calls": [{}]}


@pytest.mark.parametrize(
    ("content", "params", "words"),
    [
        ([5, 100], {}, "The prompt has tokens outside the model's vocabulary of 100"),
        ("a", {"stop_token_ids": [100]}, "stop_token_ids has tokens outside"),
        ("a", {"logit_bias": {"7": 1.0, "100": 1.0}}, "logit_bias has tokens outside"),
        ({"messages": [USER], "tools": [{}]}, {}, "shows no tools"),
        ({"messages": [USER, CALLS]}, {}, "shows no tool_calls"),
        ({"messages": [USER], "documents": [{}]}, {}, "shows no documents"),
    ],
)
def test_what_a_model_cannot_do_is_refused(
    content: Any, params: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputRefused, match=words):
        Accepted(100, ("messages",)).check(content, params)
    Accepted(101, ("messages", "tools", "tool_calls", "documents")).check(content, params)


def test_without_a_template_there_are_no_chats() -> None:
    Accepted(100).check("a", {})
    with pytest.raises(InputRefused, match="no chat template"):
        Accepted(100).check({"messages": [USER]}, {})


def test_it_goes_with_a_workers_report() -> None:
    told = Accepted(100, ("messages", "tools"))
    assert accepted_by({"engine": {"accepted": msgspec.to_builtins(told)}}) == told
    for report in ({}, {"engine": {}}, {"engine": None}, {"engine": {"accepted": {"chat": 1}}}):
        assert accepted_by(report) is None
