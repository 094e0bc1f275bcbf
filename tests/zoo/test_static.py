"""Architectures that stack, those that run one text after the other, and what is no causal language model."""

import pytest

from tests.conftest import every
from tests.zoo.table import MODELS, REFUSED, STACKED, STATIC
from tests.zoo.visit import visit


@pytest.mark.explores
@pytest.mark.parametrize("name", [*every(2, STACKED), *STATIC])
def test_texts_in_company_are_those_of_generate_alone(name: str) -> None:
    found = visit(MODELS[name])

    assert found.wrong == ()
    assert found.batching == ("stacked" if name in STACKED else "static"), found.reason
    assert "reads its whole text again" not in found.reason


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_texts_is_refused_with_the_reason(name: str) -> None:
    model, sentence = REFUSED[name]
    found = visit(model)

    assert found.batching == "refused"
    assert sentence in found.reason


def test_the_zoo_has_more_than_sixty_inmates() -> None:
    assert len(MODELS) - len(REFUSED) >= 60
