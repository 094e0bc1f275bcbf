"""Architectures that share one packed row: greedy texts in company are those of `generate` alone."""

import pytest

from tests.conftest import every, exploring
from tests.zoo.table import ALIKE, PACKED
from tests.zoo.visit import visit

DAILY = [name for name in PACKED if name not in ALIKE]


@pytest.mark.explores
@pytest.mark.parametrize("name", PACKED if exploring() else every(2, DAILY))
def test_texts_in_company_are_those_of_generate_alone(name: str) -> None:
    found = visit(PACKED[name])

    assert found.wrong == ()
    assert found.batching == "packed", found.reason
