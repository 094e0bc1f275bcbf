"""From logits to tokens. What is drawn depends on the logits, the parameters, the seed and the position."""

import hashlib
from collections.abc import Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Ids = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one job wants its tokens chosen. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 are off."""

    seed: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, params: Mapping[str, Any], seed: int) -> "Sampling":
        return cls(
            seed=seed,
            temperature=float(params.get("temperature", 0.0)),
            top_k=int(params.get("top_k", 0)),
            top_p=float(params.get("top_p", 1.0)),
            repetition_penalty=float(params.get("repetition_penalty", 1.0)),
        )


@dataclass(frozen=True, slots=True)
class Draw:
    """One token to choose: the rules, the tokens so far (prompt included), and the position in the text."""

    sampling: Sampling
    tokens: Items[int]
    position: int


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that is a pure function of seed and position (53 bits of BLAKE2b)."""
    counter = (seed % 2**64).to_bytes(8, "little") + position.to_bytes(8, "little")
    digest = hashlib.blake2b(counter, digest_size=8, person=b"truthgpt").digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def choose(logits: torch.Tensor, draws: Items[Draw]) -> list[int | None]:
    """One token a row of `logits` [rows, vocabulary], or None where the row holds no usable numbers.

    Rows never look at one another, so a broken one breaks alone and a text does not depend on its
    company. `logits` is float32 and is left as it was.
    """
    if not draws:
        return []
    best, greedy = logits.max(dim=-1)
    usable = torch.isfinite(best).tolist()
    chosen: list[int | None] = [
        token if good else None for token, good in zip(greedy.tolist(), usable, strict=True)
    ]
    special = [row for row, draw in enumerate(draws) if usable[row] and not _plain(draw.sampling)]
    if special:
        # float64, and numpy: on a single row its calls cost a tenth of torch's.
        rows = logits[special].cpu().numpy().astype(np.float64)
        for row, scores in zip(special, rows, strict=True):
            chosen[row] = _draw(scores, draws[row])
    return chosen


def _plain(sampling: Sampling) -> bool:
    return sampling.temperature == 0.0 and sampling.repetition_penalty == 1.0


def _draw(scores: Numbers, draw: Draw) -> int:
    """Inverse of the cumulative distribution at `uniform(seed, position)`; `scores` is overwritten."""
    sampling = draw.sampling
    if sampling.repetition_penalty != 1.0:
        _penalise(scores, draw.tokens, sampling.repetition_penalty)
    if sampling.temperature == 0.0:
        return int(scores.argmax())
    scores -= scores.max()
    with np.errstate(over="ignore"):
        scores /= sampling.temperature
    probabilities, ids = _candidates(scores, sampling.top_k, sampling.top_p)
    mass = probabilities.cumsum()
    point = uniform(sampling.seed, draw.position) * mass[-1]
    at = min(int(mass.searchsorted(point, side="right")), len(mass) - 1)
    return at if ids is None else int(ids[at])


def _penalise(scores: Numbers, tokens: Items[int], penalty: float) -> None:
    """Make what was said less likely, as in CTRL (https://arxiv.org/abs/1909.05858, section 4.1)."""
    said = np.unique(np.asarray(tokens, dtype=np.intp))
    found = scores[said]
    scores[said] = np.where(found < 0, found * penalty, found / penalty)


def _candidates(scores: Numbers, top_k: int, top_p: float) -> tuple[Numbers, Ids | None]:
    """What top_k, then top_p leave over: weights and their tokens, None for the whole vocabulary.

    Likeliest first where anything was cut; equals stand in the order of their ids.
    """
    if 0 < top_k < len(scores):
        bound = np.partition(scores, -top_k)[-top_k]
        ids = _likeliest(scores, np.flatnonzero(scores >= bound))[:top_k]
        weights = np.exp(scores[ids])
        weights /= weights.sum()
    else:
        weights = np.exp(scores)
        if top_p >= 1.0:
            return weights, None
        weights /= weights.sum()
        # All tokens below this bound together weigh less than 1 - top_p: no need to sort them.
        ids = _likeliest(weights, np.flatnonzero(weights >= (1.0 - top_p) / len(weights)))
        weights = weights[ids]
    if top_p < 1.0:
        before = weights.cumsum() - weights
        inside = max(1, int((before < top_p).sum()))
        weights, ids = weights[:inside], ids[:inside]
    return weights, ids


def _likeliest(values: Numbers, ids: Ids) -> Ids:
    return ids[np.argsort(-values[ids], kind="stable")]
