"""Outputs of whatever form, shown or passed over, never an error."""

from typing import Any

import msgspec
import pytest

from api.console.pairs import nearest, vectors_of
from api.console.shown import MOST_SHOWN, Output, Request
from shared.domain.records import Record


def record(output: Any) -> Record:
    return Record({"id": "job_x", "model": "m", "output": msgspec.json.encode(output).decode()})


@pytest.mark.parametrize(
    "output",
    [
        *(None, 0, "text", [], {}, {"embeddings": []}, {"embeddings": "x"}, {"embeddings": [1]}),
        *({"embeddings": [["a"]]}, {"text": 1}, {"choices": [1]}, {"choices": [{"text": None}]}),
    ],
)
def test_any_output_can_be_shown(output: Any) -> None:
    shown = Output.of(record(output))

    assert shown is None if output is None else shown is not None
    assert nearest(vectors_of(record(output))) == []


def test_texts_are_shown_each_and_long_ones_in_part() -> None:
    choices = [{"text": "a", "finish_reason": "stop"}, {"text": "b" * (MOST_SHOWN + 1)}]

    shown = Output.of(record({"text": "a", "finish_reason": "stop", "choices": choices}))

    assert shown is not None and shown.cut and shown.finish == "stop"
    assert [len(text) for text in shown.texts] == [1, MOST_SHOWN]


def test_a_request_of_any_content_is_shown_as_it_would_be_sent_again() -> None:
    stored = msgspec.json.encode({"content": [1, 2], "params": {"n": 2}, "seed": 7})

    shown = Request.of(stored, "m", "http://localhost")

    assert '"input": [\n    1,\n    2\n  ]' in shown.curl and "input=[1, 2]" in shown.python
    assert shown.params == {"n": "2"}
