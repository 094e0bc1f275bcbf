"""What a worker is told of params."""

import pytest

from shared.params import PARAMS, TextGenerationParams, told


@pytest.mark.parametrize("engine", sorted(PARAMS))
def test_only_what_is_not_assumed_is_told(engine: str) -> None:
    defaults = PARAMS[engine].validate_python({}).model_dump()
    assert set(told(engine, defaults)) <= {"max_new_tokens"}


def test_how_much_is_always_told_for_each_model_has_its_own_limit() -> None:
    given = TextGenerationParams().model_dump()
    assert told("text-generation", given) == {"max_new_tokens": given["max_new_tokens"]}


def test_an_engine_of_ones_own_is_told_all() -> None:
    assert told("package:Class", {"temperature": 0.0}) == {"temperature": 0.0}
