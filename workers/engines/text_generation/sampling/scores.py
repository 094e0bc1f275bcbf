"""Computes log-probabilities of tokens, for jobs that ask for them."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import torch

from shared.domain.params import MAX_TOP_LOGPROBS
from workers.engines.loading.vocabulary import Vocabulary
from workers.engines.texts.sampling import Score

Name = Callable[[int, bool], str]
"""The text of a token, which is the first of its text or not."""

LEAST = -9999.0
"""Stands for minus infinity, which JSON does not have."""


def score(logits: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Log-probabilities under the model alone: no temperature, no penalty, no cut.

    `logits` is float32 [rows, vocabulary], `tokens` [rows]. Returns, on the same device, those of
    `tokens` [rows], and the likeliest with their ids, [rows, MAX_TOP_LOGPROBS] each: always as many,
    so that the order of equals does not depend on what other rows ask for.
    """
    logprobs = logits.double().log_softmax(-1).nan_to_num(nan=LEAST, neginf=LEAST)
    chosen = logprobs.gather(1, tokens.clamp_min(0)[:, None])[:, 0]
    top, top_ids = logprobs.topk(min(MAX_TOP_LOGPROBS, logits.shape[-1]), dim=-1)
    return chosen, top, top_ids


def namer(vocabulary: Vocabulary) -> Name:
    """See `Vocabulary.name`; what was asked for lately is remembered."""

    @lru_cache(maxsize=1 << 16)
    def name(token: int, first: bool) -> str:
        return vocabulary.name(token, first=first)

    return name


def to_json(scores: Iterable[Score], name: Name, *, alone: bool) -> list[dict[str, Any]]:
    """The output's `logprobs`: an entry a token. `alone`: the first one begins a text, see `Sequence`."""
    return [_entry(score, name, alone and number == 0) for number, score in enumerate(scores)]


def _entry(score: Score, name: Name, first: bool) -> dict[str, Any]:
    return {
        "token": name(score.token, first),
        "token_id": score.token,
        "logprob": score.logprob,
        "top": [{"token": name(t, first), "token_id": t, "logprob": p} for t, p in score.top],
    }


def as_score(token: int, count: int, chosen: float, top: list[Any], top_ids: list[Any]) -> Score:
    """One row of what `score` returns, as numbers, with its `count` likeliest."""
    return Score(token, chosen, tuple(zip(top_ids[:count], top[:count], strict=True)))
