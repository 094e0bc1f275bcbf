"""Memory that runs out in a step of the text engine: fewer tokens a step, the same texts."""

from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.domain.models.catalog import Batch
from tests.engine_driver import drive
from tests.tiny_models import text_spec
from workers.engines.base import Failed, Work
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.engine import TextGeneration
from workers.host.isolation import Isolation

PROMPTS = ["The quick brown fox", "a", "jagen Viktor quer über", "def main(argv)"]


@pytest.fixture
def engine(llama: Path) -> TextGeneration:
    engine = TextGeneration(text_spec(llama, batch=Batch(max_size=4, token_budget=64)))
    engine.load()
    return engine


def works(count: int) -> list[Work]:
    params: dict[str, Any] = {"max_new_tokens": 8}
    return [Work(f"job-{n}", PROMPTS[n % 4], params, seed=n) for n in range(count)]


def cramp(engine: TextGeneration, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """From here on a step of more than `most` tokens does not fit."""
    run = engine._runner.run

    def cramped(chunks: Items[Chunk]) -> tuple[list[Chunk], torch.Tensor]:
        if sum(chunk.length for chunk in chunks) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return run(chunks)

    monkeypatch.setattr(engine._runner, "run", cramped)


@pytest.mark.parametrize("most", [8, 2])
def test_steps_shrink_and_every_text_is_what_it_was(
    engine: TextGeneration, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    expected = drive(engine, works(6))
    cramp(engine, monkeypatch, most)

    ran = drive(Isolation(engine, continues=True), works(6))

    assert engine.budget.now <= most
    for work in works(6):
        assert ran.text(work.id) == expected.text(work.id)


def test_a_device_without_any_room_says_so(
    engine: TextGeneration, monkeypatch: pytest.MonkeyPatch
) -> None:
    cramp(engine, monkeypatch, 0)

    ran = drive(Isolation(engine, continues=True), works(3))

    assert {end.code for end in ran.outcomes.values() if isinstance(end, Failed)} == {
        "out_of_memory"
    }
    assert len(ran.outcomes) == 3
