"""Log-probabilities of tokens, for those who ask for them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from shared.params import MAX_TOP_LOGPROBS

LEAST = -9999.0
"""Stands for minus infinity, which JSON does not have."""


@dataclass(frozen=True, slots=True)
class Score:
    """A token's natural log-probability, and the likeliest tokens with theirs, best first."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


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


def namer(tokenizer: Any) -> Callable[[int], str]:
    """The text of a token alone, special ones included; part of a character is U+FFFD."""

    @lru_cache(maxsize=1 << 16)
    def name(token: int) -> str:
        text: str = tokenizer.decode(
            [token], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    return name


def told(scores: Iterable[Score], name: Callable[[int], str]) -> list[dict[str, Any]]:
    """The output's `logprobs`: an entry a token."""
    return [
        {
            "token": name(score.token),
            "token_id": score.token,
            "logprob": score.logprob,
            "top": [{"token": name(t), "token_id": t, "logprob": p} for t, p in score.top],
        }
        for score in scores
    ]


def as_score(token: int, count: int, chosen: float, top: list[Any], top_ids: list[Any]) -> Score:
    """One row of what `score` returns, as numbers, with its `count` likeliest."""
    return Score(token, chosen, tuple(zip(top_ids[:count], top[:count], strict=True)))
