"""Chooses tokens from logits. A draw depends on logits, parameters, seed and position, and on nothing else.

All rows at once, on the device that holds the logits, and with one wait for it.
"""

import hashlib
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field

import torch

from workers.engines.text_generation.grammar.masks import Allowed, Kept
from workers.engines.text_generation.sampling.cuts import Cuts, cut
from workers.engines.text_generation.sampling.masks import add_bias, forbid
from workers.engines.text_generation.sampling.scores import as_score, score
from workers.engines.text_generation.transfer import download, upload
from workers.engines.texts.rules import Rules
from workers.engines.texts.sampling import Draw, Score

BROKEN = -1
NOTHING = -2
"""Chosen where a grammar allows no token."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """One token a row, None where the row holds no usable numbers, and scores by row where wanted."""

    tokens: list[int | None] = field(default_factory=list)
    scores: dict[int, Score] = field(default_factory=dict)


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that is a pure function of seed and position (53 bits of BLAKE2b)."""
    counter = (seed % 2**64).to_bytes(8, "little") + position.to_bytes(8, "little")
    digest = hashlib.blake2b(counter, digest_size=8, person=b"truthgpt").digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def choose(logits: torch.Tensor, draws: Items[Draw], allowed: Allowed | None = None) -> Chosen:
    """Choose for each row of `logits`, float32 [rows, vocabulary], which is left as it was.

    `allowed` says which tokens the rows of texts that follow a grammar may choose; `NOTHING` is chosen where
    there is none. Rows never look at one another, so a broken one breaks alone and a text does not depend on
    its company.
    """
    if not draws:
        return Chosen()
    best, tokens = logits.max(dim=-1)
    groups: dict[bool, list[int]] = {}
    held: list[int] = []
    for row, draw in enumerate(draws):
        if draw.known is None and not draw.plain:
            groups.setdefault(draw.sampling.cuts, []).append(row)
        elif draw.known is None and allowed is not None and row in allowed.places:
            held.append(row)
    for cuts, rows in groups.items():
        at = upload(rows, torch.long, logits.device)
        kept = allowed.kept(rows, logits) if allowed else None
        tokens[at] = _draw(logits[at].double(), [draws[row] for row in rows], cuts, kept)
    if held and allowed is not None and (kept := allowed.kept(held, logits)) is not None:
        at = upload(held, torch.long, logits.device)
        left = logits[at]
        dead = kept.apply(left)
        tokens[at] = torch.where(dead, NOTHING, left.argmax(dim=-1))
    known = [row for row, draw in enumerate(draws) if draw.known is not None]
    if known:
        fixed = [draws[row].known for row in known]
        tokens[upload(known, torch.long, logits.device)] = upload(fixed, torch.long, logits.device)
    tokens = torch.where(best.isfinite(), tokens, BROKEN)
    asking = [row for row, draw in enumerate(draws) if draw.sampling.logprobs is not None]
    if not asking:
        return Chosen(_tokens(*download(tokens)))
    at = upload(asking, torch.long, logits.device)
    found, *scored = download(tokens, *score(logits[at], tokens[at]))
    scores = {
        row: as_score(found[row], draws[row].sampling.logprobs or 0, *numbers)
        for row, numbers in zip(asking, zip(*scored, strict=True), strict=True)
    }
    return Chosen(_tokens(found), scores)


def _tokens(found: list[int]) -> list[int | None]:
    return [None if token == BROKEN else token for token in found]


def _draw(
    scores: torch.Tensor, draws: Items[Draw], cuts: bool, kept: Kept | None = None
) -> torch.Tensor:
    """Inverse of the cumulative distribution at `uniform(seed, position)`.

    `scores` is float64 [rows, vocabulary] and is overwritten; `kept` is applied to it last, so that a grammar
    has the last word. Returns [rows].
    """
    rules = [draw.sampling for draw in draws]
    _apply(scores, draws, lambda rules, row, d: rules.before(row, list(d.tokens), d.prompt_length))
    add_bias(scores, draws)
    _penalise(scores, draws)
    forbid(scores, draws)
    _apply(
        scores,
        draws,
        lambda rules, row, d: rules.after(row, list(d.tokens), d.prompt_length, d.most),
    )
    dead = kept.apply(scores) if kept is not None else None
    likeliest = scores.argmax(dim=-1)
    if kept is not None and dead is not None:
        likeliest[kept.rows] = torch.where(dead, NOTHING, likeliest[kept.rows])
    if all(rule.temperature == 0.0 for rule in rules):
        return likeliest
    vocabulary = scores.shape[-1]
    numbers = [
        (
            rule.temperature,
            uniform(rule.seed, draw.position),
            min(rule.top_k or vocabulary, vocabulary),
            rule.top_p,
            rule.min_p,
        )
        for rule, draw in zip(rules, draws, strict=True)
    ]
    columns = upload(numbers, torch.float64, scores.device).T[:, :, None]
    temperature, point, top_k, top_p, min_p = columns
    scores -= scores.amax(dim=-1, keepdim=True)
    scores /= torch.where(temperature > 0.0, temperature, 1.0)
    weights, ids = scores.exp_(), None
    if cuts:
        largest = max((rule.top_k for rule in rules if rule.top_k < vocabulary), default=0)
        weights, ids = cut(weights, Cuts(top_k.long(), top_p, min_p, largest))
    mass = weights.cumsum(dim=-1)
    whole = mass[:, -1:]
    # Just below the whole at most, for behind it there may be tokens without any weight.
    point = torch.minimum(point * whole, torch.nextafter(whole, torch.zeros_like(whole)))
    at = torch.searchsorted(mass, point, right=True).clamp_max_(mass.shape[-1] - 1)
    drawn = (at if ids is None else ids.gather(1, at))[:, 0]
    sampled = (temperature[:, 0] > 0.0) & (likeliest != NOTHING)
    return torch.where(sampled, drawn, likeliest)


def _apply(
    scores: torch.Tensor,
    draws: Items[Draw],
    change: Callable[[Rules, torch.Tensor, Draw], torch.Tensor],
) -> None:
    """The model's own rules, for the rows that have some; one row at a time, as they are written for."""
    for row, draw in enumerate(draws):
        if draw.sampling.rules is not None:
            scores[row] = change(draw.sampling.rules, scores[row : row + 1], draw)[0]


def _penalise(scores: torch.Tensor, draws: Items[Draw]) -> None:
    """Make what was said less likely; a token that was not said is left exactly as it was.

    First the repetition penalty of CTRL over prompt and text (https://arxiv.org/abs/1909.05858, section
    4.1), then presence and frequency over the text alone, as OpenAI's API defines them.
    """
    repeating = [row for row, draw in enumerate(draws) if draw.sampling.repeats]
    if repeating:
        counts = _counts(scores, [(row, draws[row].tokens) for row in repeating])
        factors = _column([draw.sampling.repetition_penalty for draw in draws], scores)
        changed = torch.where(scores < 0, scores * factors, scores / factors)
        scores.copy_(torch.where(counts > 0, changed, scores))
    counting = [row for row, draw in enumerate(draws) if draw.sampling.counts]
    if counting:
        said = [(row, draws[row].tokens[draws[row].prompt_length :]) for row in counting]
        counts = _counts(scores, said)
        scores -= counts * _column([d.sampling.frequency_penalty for d in draws], scores)
        scores -= (counts > 0) * _column([d.sampling.presence_penalty for d in draws], scores)


def _counts(scores: torch.Tensor, said: Items[tuple[int, Items[int]]]) -> torch.Tensor:
    """How often each row has said each token, float64 like `scores`."""
    vocabulary = scores.shape[-1]
    places = [row * vocabulary + token for row, tokens in said for token in tokens]
    at = upload(places, torch.long, scores.device)
    ones = torch.ones_like(at, dtype=scores.dtype)
    return torch.zeros_like(scores).view(-1).index_add_(0, at, ones).view_as(scores)


def _column(values: Items[float], like: torch.Tensor) -> torch.Tensor:
    return upload(values, like.dtype, like.device)[:, None]
