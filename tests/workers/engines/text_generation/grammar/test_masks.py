"""Masks of the rows that follow a grammar: made side by side, applied to them alone."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.tiny_models import byte_level_tokenizer
from workers.engines.text_generation.grammar.masks import (
    MOST_THREADS,
    Allowed,
    Masks,
    spare_threads,
)
from workers.engines.text_generation.grammar.matchers import Grammars

TOKENIZER = byte_level_tokenizer()
GRAMMARS = Grammars(TOKENIZER, len(TOKENIZER), {0})


def chunk(number: int, regex: str | None) -> Any:
    matcher = GRAMMARS.matcher({"regex": regex} if regex else None, [], {0})
    sequence = SimpleNamespace(id=str(number), matcher=matcher, tokens=[1])
    return SimpleNamespace(sequence=sequence, samples=True)


@pytest.mark.parametrize("threads", [1, 3])
def test_each_text_gets_its_own_mask_however_many_make_them(threads: int) -> None:
    regexes = ["a", None, "b", "[cd]", "e", "[fg]x"]
    chunks = [chunk(number, regex) for number, regex in enumerate(regexes)]
    rows: list[Any] = [SimpleNamespace(sequence=one.sequence, position=0) for one in chunks]

    pending = Masks(GRAMMARS.words, threads).begin(chunks)

    assert pending is not None
    allowed = pending.join(rows)
    kept = allowed.kept(range(len(rows)), torch.zeros(1, len(TOKENIZER)))
    assert kept is not None
    assert kept.rows.tolist() == [0, 2, 3, 4, 5]
    names = [
        sorted(TOKENIZER.convert_ids_to_tokens(row.isfinite().nonzero()[:, 0].tolist()))
        for row in kept.additions
    ]
    assert names == [["a"], ["b"], ["c", "d"], ["e"], ["f", "g"]]


def test_without_a_grammar_there_is_nothing_to_make() -> None:
    assert Masks(GRAMMARS.words).begin([chunk(0, None)]) is None
    assert (
        Allowed(torch.zeros(1, 1, dtype=torch.int32), {4: 0}).kept([0, 1], torch.zeros(1)) is None
    )


def test_rows_without_a_mask_are_left_as_they_are_and_a_dead_one_is_told() -> None:
    masks = torch.tensor([[0b10], [0]], dtype=torch.int32)
    scores = torch.tensor([[1.0, 2.0], [3.0, -0.0], [5.0, 6.0]], dtype=torch.float64)
    kept = Allowed(masks, {7: 0, 9: 1}).kept([7, 8, 9], scores)
    assert kept is not None

    dead = kept.apply(scores)

    assert dead.tolist() == [False, True]
    assert scores.tolist() == [[-torch.inf, 2.0], [3.0, -0.0], [0.0, 0.0]]
    assert str(scores[1, 1].item()) == "-0.0"


def test_a_model_leaves_at_least_one_thread() -> None:
    assert 1 <= spare_threads(torch.device("cpu")) <= spare_threads(torch.device("cuda"))
    assert spare_threads(torch.device("cuda")) <= MOST_THREADS
