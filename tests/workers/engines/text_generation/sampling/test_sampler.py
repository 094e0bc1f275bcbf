import math
from collections import Counter
from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.requests.params import checked
from tests.conftest import examples
from workers.engines.text_generation.sampling import sampler
from workers.engines.text_generation.sampling.sampler import Chosen, uniform
from workers.engines.texts.sampling import Draw, Sampling

PARAMS = st.builds(
    Sampling,
    seed=st.integers(0, 2**63 - 1),
    temperature=st.sampled_from([0.0, 1e-6, 0.7, 1.0, 5.0]),
    top_k=st.sampled_from([0, 1, 3, 1000]),
    top_p=st.sampled_from([1e-9, 0.5, 0.95, 1.0]),
    min_p=st.sampled_from([0.0, 0.1, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.5]),
    presence_penalty=st.sampled_from([0.0, 1.5, -2.0]),
    frequency_penalty=st.sampled_from([0.0, 0.5, -2.0]),
    logprobs=st.sampled_from([None, 0, 3]),
)


def choose(logits: torch.Tensor, draws: Items[Draw]) -> list[int | None]:
    return sampler.choose(logits, draws).tokens


def random_logits(rows: int, vocabulary: int = 50, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.randn(rows, vocabulary, generator=generator) * scale


def frequencies(row: torch.Tensor, sampling: Sampling, draws: int = 4000) -> dict[int, float]:
    logits = row.expand(draws, -1)
    tokens = choose(logits, [Draw(sampling, [], position) for position in range(draws)])
    return {int(t): n / draws for t, n in Counter(tokens).items() if t is not None}


def test_uniform_is_a_function_of_seed_and_position_and_spreads_over_the_unit_interval() -> None:
    values = [uniform(7, position) for position in range(5000)]

    assert values == [uniform(7, position) for position in range(5000)]
    assert values != [uniform(8, position) for position in range(5000)]
    assert all(0.0 <= value < 1.0 for value in values)
    assert sum(values) / 5000 == pytest.approx(0.5, abs=0.02)
    assert Counter(int(v * 10) for v in values)[9] == pytest.approx(500, abs=100)


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = random_logits(5)

    tokens = choose(logits, [Draw(Sampling(seed=1), [], 0)] * 5)

    assert tokens == logits.argmax(-1).tolist()


def test_tokens_are_drawn_as_often_as_the_softmax_says() -> None:
    row = torch.tensor([1.0, 0.0, 2.0, -1.0])

    found = frequencies(row, Sampling(seed=3, temperature=2.0))

    for token, probability in enumerate(torch.softmax(row / 2.0, 0).tolist()):
        assert found[token] == pytest.approx(probability, abs=0.03)


def test_top_k_leaves_the_k_likeliest_renormalised() -> None:
    row = torch.tensor([1.0, 0.0, 2.0, -1.0])

    found = frequencies(row, Sampling(seed=3, temperature=1.0, top_k=2))

    assert found[2] == pytest.approx(math.e / (1 + math.e), abs=0.03)
    assert set(found) == {0, 2}


def test_top_p_leaves_the_smallest_set_that_reaches_p() -> None:
    row = torch.log(torch.tensor([0.1, 0.5, 0.3, 0.1]))

    assert set(frequencies(row, Sampling(seed=3, temperature=1.0, top_p=0.45))) == {1}
    assert set(frequencies(row, Sampling(seed=3, temperature=1.0, top_p=0.7))) == {1, 2}


def test_top_k_comes_before_top_p() -> None:
    row = torch.log(torch.tensor([0.4, 0.3, 0.2, 0.1]))

    # Of the two likeliest, renormalised, the first alone has 0.57.
    assert set(frequencies(row, Sampling(1, 1.0, top_k=2, top_p=0.55))) == {0}


@given(st.floats(0.01, 1.0, exclude_max=True), st.integers(1, 1000))
def test_top_p_sorts_few_tokens_and_misses_none(top_p: float, seed: int) -> None:
    logits = random_logits(1, vocabulary=300, scale=seed / 300)
    probabilities = torch.softmax(logits[0].double(), 0)
    likeliest = probabilities.argsort(descending=True, stable=True)
    before = probabilities[likeliest].cumsum(0) - probabilities[likeliest]
    nucleus = likeliest[before < top_p].tolist()

    sampling = Sampling(seed, 1.0, top_p=top_p)
    drawn = choose(logits.expand(20, -1), [Draw(sampling, [], n) for n in range(20)])

    assert set(drawn) <= set(nucleus)


def test_what_was_said_is_penalised_whatever_its_sign() -> None:
    logits = torch.tensor([[4.0, 3.0, -1.0], [-1.0, -1.1, -5.0]])
    sampling = Sampling(seed=0, repetition_penalty=2.0)

    assert choose(logits, [Draw(sampling, [0, 0], 0)] * 2) == [1, 1]
    assert logits[0, 0] == 4.0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_without_numbers_breaks_alone(value: float, temperature: float) -> None:
    logits = random_logits(3)
    draws = [Draw(Sampling(9, temperature), [], n) for n in range(3)]
    expected = choose(logits, draws)

    logits[1, 17] = value

    assert choose(logits, draws) == [expected[0], None, expected[2]]


def test_a_masked_token_is_never_drawn_and_a_row_of_nothing_else_is_broken() -> None:
    row = torch.full((4,), -math.inf)
    assert choose(row[None], [Draw(Sampling(0, 1.0), [], 0)]) == [None]

    row[2] = 0.0

    assert set(frequencies(row, Sampling(0, 1.0), draws=50)) == {2}
    assert set(frequencies(row, Sampling(0, 1.0, top_k=3), draws=50)) == {2}


@settings(deadline=None, max_examples=examples(60))
@given(st.lists(PARAMS, min_size=1, max_size=6), st.integers(0, 10_000))
def test_a_draw_does_not_depend_on_its_company(params: list[Sampling], position: int) -> None:
    logits = random_logits(len(params))
    draws = [Draw(sampling, [1, 2, 3], position) for sampling in params]

    together = sampler.choose(logits, draws)

    alone = [sampler.choose(logits[n : n + 1], [draw]) for n, draw in enumerate(draws)]
    assert together.tokens == [chosen.tokens[0] for chosen in alone]
    assert together.scores == {n: c.scores[0] for n, c in enumerate(alone) if c.scores}
    assert all(token is not None and 0 <= token < 50 for token in together.tokens)


def test_nothing_to_sample_is_nothing() -> None:
    assert sampler.choose(torch.empty(0, 0), []) == Chosen()


def test_min_p_cuts_below_a_share_of_the_likeliest() -> None:
    row = torch.log(torch.tensor([0.5, 0.26, 0.2, 0.04]))

    assert set(frequencies(row, Sampling(3, 1.0, min_p=0.45))) == {0, 1}
    assert set(frequencies(row, Sampling(3, 1.0, min_p=1.0))) == {0}
    assert set(frequencies(row, Sampling(3, 1.0, min_p=0.01))) == {0, 1, 2, 3}


def test_min_p_comes_after_top_p() -> None:
    row = torch.log(torch.tensor([0.5, 0.3, 0.2]))

    # Were min_p first, what is left of 0.5 and 0.3 would be 0.625 already.
    assert set(frequencies(row, Sampling(3, 1.0, top_p=0.6, min_p=0.5))) == {0, 1}


@given(
    st.integers(1, 40),
    st.floats(0.05, 1.0),
    st.floats(0.0, 1.0),
    st.integers(1, 500),
)
def test_what_is_left_is_what_sorting_everything_leaves(
    top_k: int, top_p: float, min_p: float, seed: int
) -> None:
    logits = random_logits(1, vocabulary=40, scale=seed / 100)[0]
    left = torch.softmax(logits.double(), 0)
    left[left.argsort(descending=True, stable=True)[top_k:]] = 0
    left /= left.sum()
    order = left.argsort(descending=True, stable=True)
    before = left[order].cumsum(0) - left[order]
    if top_p < 1:
        left[order[before >= top_p]] = 0
    allowed = (left > 0) & (left >= min_p * left.max() * (1 - 1e-12))

    rule = Sampling(seed, 1.0, top_k, top_p, min_p)
    drawn = choose(logits.expand(40, -1), [Draw(rule, [], n) for n in range(40)])

    assert all(token is not None and allowed[token] for token in drawn)


def test_presence_counts_once_and_frequency_each_time_in_the_text_alone() -> None:
    row = torch.tensor([[3.0, 2.5, 2.0, 0.0]])
    said = [3, 3, 3, 0, 1, 1]

    def best(**penalties: float) -> int | None:
        return choose(row, [Draw(Sampling(0, **penalties), said, 3, prompt_length=3)])[0]

    assert best() == 0
    assert best(presence_penalty=0.4) == 0
    assert best(presence_penalty=1.2) == 2
    assert best(frequency_penalty=0.6) == 0
    assert best(frequency_penalty=0.6, presence_penalty=0.5) == 2
    assert best(frequency_penalty=-2.0) == 1
    # The prompt's token 3 would win by far if the prompt counted.
    assert best(presence_penalty=-2.0) == 0


def test_scores_are_those_of_the_model_whatever_the_rules() -> None:
    logits = random_logits(2)
    right = torch.log_softmax(logits.double(), -1)
    draws = [
        Draw(Sampling(1, 1.5, top_k=3, presence_penalty=2.0, logprobs=4), [5, 6], 2),
        Draw(Sampling(1, logprobs=0), [], 0),
    ]

    chosen = sampler.choose(logits, draws)

    for row, score in chosen.scores.items():
        assert score.token == chosen.tokens[row]
        assert score.logprob == pytest.approx(float(right[row, score.token]))
    likeliest = right[0].topk(4)
    assert [token for token, _ in chosen.scores[0].top] == likeliest.indices.tolist()
    assert [p for _, p in chosen.scores[0].top] == pytest.approx(likeliest.values.tolist())
    assert chosen.scores[1].top == ()


def test_a_token_that_is_known_is_only_scored() -> None:
    logits = random_logits(2)
    draw = Draw(Sampling(1, 1.0, logprobs=0), [7, 9], 0, prompt_length=1, known=9)

    chosen = sampler.choose(logits, [draw, replace(draw, known=None)])

    assert chosen.tokens[0] == 9
    assert chosen.scores[0].logprob == pytest.approx(float(logits[0].log_softmax(-1)[9]))


def test_a_token_without_any_chance_has_a_score_that_json_can_hold() -> None:
    logits = torch.tensor([[0.0, -math.inf]])

    chosen = sampler.choose(logits, [Draw(Sampling(0, logprobs=2), [], 0)])

    assert chosen.scores[0].top == ((0, 0.0), (1, -9999.0))


ASKED = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 4,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.2,
    "frequency_penalty": 0.3,
    "logprobs": True,
    "top_logprobs": 2,
}


@pytest.mark.parametrize("engine", ["text-generation", "vllm"])
@pytest.mark.parametrize("asked", [{}, ASKED, *({name: ASKED[name]} for name in list(ASKED)[:7])])
def test_a_worker_samples_as_it_would_if_it_were_told_all(
    engine: str, asked: dict[str, Any]
) -> None:
    params, told = checked(engine, asked)
    assert Sampling.of(told, 7) == Sampling.of(params, 7)
    assert told.items() <= params.items()
