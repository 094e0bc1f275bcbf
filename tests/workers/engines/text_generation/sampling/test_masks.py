"""Biases and what may not be said: row by row, before temperature, and nothing for rows without."""

from typing import Any

import pytest
import torch

from tests.workers.engines.text_generation.sampling.test_sampler import choose, random_logits
from workers.engines.texts.bad_words import BadWords
from workers.engines.texts.sampling import Draw, Sampling

PLAIN = Sampling(seed=1)


def draw(sampling: Sampling, said: tuple[int, ...] = (), prompt: int = 0) -> Draw:
    return Draw(sampling, said, len(said) - prompt, prompt)


def test_a_bias_is_added_to_the_score() -> None:
    logits = torch.zeros(1, 10)
    logits[0, 3] = 5.0

    assert choose(logits, [draw(Sampling(1, bias=((7, 5.1),)))]) == [7]
    assert choose(logits, [draw(Sampling(1, bias=((7, 4.9),)))]) == [3]
    assert choose(logits, [draw(Sampling(1, bias=((3, -100.0), (9, 0.1))))]) == [9]


def test_a_bias_comes_before_penalties_and_temperature() -> None:
    logits = torch.zeros(1, 10)
    logits[0, 3] = 2.0
    rule = Sampling(1, temperature=4.0, repetition_penalty=2.0, bias=((3, 2.0),))

    draws = [Draw(rule, (3,), position, 1) for position in range(3000)]
    found = choose(logits.expand(3000, -1), draws)

    weight = torch.tensor([0.0] * 9 + [(2.0 + 2.0) / 2.0 / 4.0]).exp()
    assert found.count(3) / 3000 == pytest.approx(float(weight[9] / weight.sum()), abs=0.03)


def test_a_text_does_not_end_before_its_least_length() -> None:
    logits = torch.zeros(1, 10)
    logits[0, 4], logits[0, 5] = 9.0, 8.0
    rule = Sampling(1, min_tokens=2, ends=(4,))

    assert [choose(logits, [draw(rule, (0,) * n)])[0] for n in range(4)] == [5, 5, 4, 4]
    sampled = Sampling(1, temperature=1.0, min_tokens=2, ends=(4,))
    assert 4 not in choose(logits.expand(50, -1), [draw(sampled)] * 50)


def test_a_bad_word_is_not_completed_and_a_prompt_does_not_count() -> None:
    logits = torch.zeros(1, 10)
    logits[0, 4], logits[0, 5], logits[0, 6] = 9.0, 8.0, 7.0
    words = BadWords(("x",), alone=(4,), after={2: ((1, 2, 5),)})
    rule = Sampling(1, bad_words=words)

    assert choose(logits, [draw(rule, (2,))]) == [5]
    assert choose(logits, [draw(rule, (1, 2))]) == [6]
    assert choose(logits, [draw(rule, (1, 2), prompt=1)]) == [5]


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_no_row_is_changed_by_what_another_asks_for(temperature: float) -> None:
    asking: list[dict[str, Any]] = [
        {},
        {"bias": ((3, 50.0), (4, -50.0))},
        {"min_tokens": 3, "ends": (0, 1, 2)},
        {"bad_words": BadWords(("x",), alone=tuple(range(40)))},
        {"repetition_penalty": 1.7},
    ]
    draws = [
        Draw(Sampling(n, temperature=temperature, **asked), (5, 6), 1, 1)
        for n, asked in enumerate(asking)
    ]
    logits = random_logits(len(draws))
    before = logits.clone()

    together = choose(logits, draws)

    assert together == [choose(logits[n : n + 1], [one])[0] for n, one in enumerate(draws)]
    assert together[0] == choose(logits[:1], [Draw(Sampling(0, temperature), (5, 6), 1, 1)])[0]
    assert torch.equal(logits, before)


def test_a_bias_of_nothing_is_plain() -> None:
    assert PLAIN.plain and draw(PLAIN).plain
    assert not Sampling(1, bias=((0, 1.0),)).plain
    assert not draw(Sampling(1, min_tokens=1, ends=(0,))).plain
    assert draw(Sampling(1, min_tokens=1, ends=(0,)), (3,)).plain
