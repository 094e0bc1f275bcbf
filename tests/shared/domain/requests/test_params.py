"""What params a request has, and what a worker is told of them."""

from typing import Any

import pytest
from pydantic import ValidationError

from shared.domain.requests.params import INPUTS, PARAMS, checked
from shared.domain.requests.text_generation_params import TextGenerationParams


@pytest.mark.parametrize("engine", sorted(PARAMS))
def test_only_what_is_not_assumed_is_told(engine: str) -> None:
    defaults = PARAMS[engine].validate_python({}).model_dump()
    assert checked(engine, defaults).told == checked(engine, {}).told == {}


def test_how_much_is_left_to_the_engine_which_knows_the_context() -> None:
    assert TextGenerationParams().max_new_tokens is None
    assert checked("text-generation", {"max_new_tokens": 128}).told == {"max_new_tokens": 128}


def test_an_engine_of_ones_own_is_told_all() -> None:
    assert checked("package:Class", {"temperature": 0.0}).told == {"temperature": 0.0}


@pytest.mark.parametrize("engine", sorted(PARAMS))
def test_defaults_are_what_an_empty_object_has(engine: str) -> None:
    assert checked(engine, {}).all == PARAMS[engine].validate_python({}).model_dump()


@pytest.mark.parametrize("engine", sorted(PARAMS))
def test_defaults_are_everybodys_own(engine: str) -> None:
    first = checked(engine, {}).all
    first.clear()

    assert checked(engine, {}).all == PARAMS[engine].validate_python({}).model_dump()


def test_what_is_given_is_checked_and_the_rest_filled_in() -> None:
    assert checked("echo", {"repeat": 3}).all == {"step_ms": None, "repeat": 3}
    with pytest.raises(ValidationError):
        checked("echo", {"repeat": 0})
    with pytest.raises(ValidationError):
        checked("echo", {"more": 1})


@pytest.mark.parametrize(
    ("engine", "content", "place"),
    [
        ("ranking", "a", None),
        ("ranking", ["a", "b"], None),
        ("ranking", [["a", "b"]], None),
        ("ranking", {"query": "a", "documents": ["b"], "top_n": 1}, None),
        ("ranking", [["a", "b", "c"]], ("pairs", 0)),
        ("ranking", {"query": "a"}, ("candidates", "documents")),
        ("ranking", {"query": "a", "documents": ["b"], "more": 1}, ("candidates", "more")),
        ("pipeline", "a", None),
        ("pipeline", {"image": "AAAA"}, None),
        ("pipeline", {"audio": 7}, ("audio", "audio", "str")),
        ("pipeline", {"audio": {"file": "file-" + "0" * 32}}, None),
        ("pipeline", ["a"], ()),
    ],
)
def test_an_input_is_told_apart_by_its_form(engine: str, content: Any, place: Any) -> None:
    if place is None:
        INPUTS[engine].validate_python(content)
        return
    with pytest.raises(ValidationError) as fault:
        INPUTS[engine].validate_python(content)
    assert fault.value.errors()[0]["loc"] == place


def test_without_a_model_of_its_own_an_engine_gets_what_was_given() -> None:
    given = {"anything": [1]}

    found = checked("my-engine", given).all

    assert found == given and found is not given
