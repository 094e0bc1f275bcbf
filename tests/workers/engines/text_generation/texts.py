"""Engines of tiny models, and the jobs that their tests give them."""

from pathlib import Path
from typing import Any

import pytest

from shared.domain.errors import InputRefused
from tests.tiny_models import (
    WAYS,
    save_causal,
    text_spec,
)
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration

PROMPTS = [
    "The quick brown fox jumps over the lazy dog.",
    "a",
    "naïve café 🎉",
    "def main(argv: list[str]) -> int:\n    return 0\n\ndef other(",
]


def saved(folder: Path, kind: str) -> Path:
    """A model that runs in that way."""
    config, sizes = WAYS[kind]
    return save_causal(folder, config, **sizes)


def loaded(path: Path, **options: Any) -> TextGeneration:
    engine = TextGeneration(text_spec(path, **options))
    engine.load()
    return engine


def works(count: int, **params: Any) -> list[Work]:
    return [
        Work(f"job-{n}", PROMPTS[n % 4] + " " * (n // 4), {"max_new_tokens": 20} | params, seed=n)
        for n in range(count)
    ]


def refusal(engine: TextGeneration, content: Any, **params: Any) -> InputRefused:
    with pytest.raises(InputRefused) as caught:
        engine.admit(Work("x", content, {"max_new_tokens": 8} | params, seed=0))
    assert engine.pending() == 0
    return caught.value
