"""Texts whose positions depend on their length are those of `generate`, in one attempt or in two."""

from typing import Any

import pytest

from tests.zoo.table import MODELS, WINDOW
from tests.zoo.visit import visit
from workers.engines.text_generation.forward.rope import LengthDependence, length_dependence

ACROSS = ((WINDOW - 14, 30), (WINDOW, 9), (WINDOW - 1, 9), (WINDOW + 6, 14), (5, 8))
"""Texts as (prompt, new tokens) that grow past the window, begin behind it, or never reach it."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("phi3, longrope", LengthDependence(WINDOW, restarts=True, moving=False)),
        ("llama, longrope", LengthDependence(WINDOW, restarts=False, moving=False)),
        ("llama, dynamic NTK", LengthDependence(WINDOW, restarts=False, moving=True)),
        ("mistral, window of 16", None),
    ],
)
def test_how_a_model_depends_on_length_is_asked_of_itself(name: str, expected: Any) -> None:
    assert length_dependence(MODELS[name].make()) == expected


@pytest.mark.parametrize("name", ["phi3, longrope", "llama, longrope", "llama, dynamic NTK"])
def test_texts_that_cross_the_window_are_those_of_generate_and_can_be_resumed(name: str) -> None:
    found = visit(MODELS[name], ACROSS, long=True)

    assert found.batching == "static"
    assert found.wrong == ()
