"""Engines that tests share which leave nothing behind in them."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from shared.domain.models.catalog import Batch
from tests.workers.engines.text_generation.texts import loaded, saved
from workers.engines.text_generation.engine import TextGeneration


@pytest.fixture(scope="module")
def engine(llama: Path) -> TextGeneration:
    """It remembers no beginnings of texts, so that each test finds it as the first one did."""
    return loaded(llama, batch=Batch(max_size=4, token_budget=24, prefix_reuse=False))


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TextGeneration]:
    """An engine for each way of `WAYS`, made when it is first asked for."""

    @cache
    def engine(kind: str) -> TextGeneration:
        return loaded(saved(tmp_path_factory.mktemp(kind.replace(" ", "-")), kind))

    return engine
