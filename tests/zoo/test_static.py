"""Architectures that run one text after the other, and those that are no causal language models."""

import pytest

from tests.zoo.table import MODELS, REFUSED, STATIC
from tests.zoo.visit import visit


@pytest.mark.parametrize("name", STATIC)
def test_texts_in_company_are_those_of_generate_alone(name: str) -> None:
    found = visit(STATIC[name])

    assert found.wrong == ()
    assert found.batching == "static"


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_texts_is_refused_with_the_reason(name: str) -> None:
    model, sentence = REFUSED[name]
    found = visit(model)

    assert found.batching == "refused"
    assert sentence in found.reason


def test_the_zoo_has_more_than_sixty_inmates() -> None:
    assert len(MODELS) - len(REFUSED) >= 60
