"""Architectures that share one packed row: greedy texts in company are those of `generate` alone."""

import pytest

from tests.zoo.table import PACKED
from tests.zoo.visit import visit


@pytest.mark.parametrize("name", PACKED)
def test_texts_in_company_are_those_of_generate_alone(name: str) -> None:
    found = visit(PACKED[name])

    assert found.wrong == ()
    assert found.batching == "packed", found.reason
