"""Computes log-probabilities of tokens, for jobs that ask for them."""

from typing import Any

import torch

from shared.domain.requests.text_generation_params import MAX_TOP_LOGPROBS
from workers.engines.texts.logprobs import LEAST
from workers.engines.texts.sampling import Score


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


def as_score(token: int, count: int, chosen: float, top: list[Any], top_ids: list[Any]) -> Score:
    """One row of what `score` returns, as numbers, with its `count` likeliest."""
    return Score(token, chosen, tuple(zip(top_ids[:count], top[:count], strict=True)))
