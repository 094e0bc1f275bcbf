"""Vectors that came out of a job, compared: their nearest pairs, and a plane where near ones lie close."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from shared.domain.records import Record

MOST_COMPARED = 16
"""Texts of which each is compared with each."""
MOST_PAIRS = 10
ROUNDS = 60
"""Of the iteration for an axis; the drawing needs no more than two figures."""

Vectors = Sequence[Sequence[float]]


class Pair(NamedTuple):
    """Two texts by their places, and the cosine of their vectors."""

    one: int
    other: int
    cosine: float


def vectors_of(record: Record) -> list[list[float]]:
    """The first vectors of a job's output; none where it has none that are plain."""
    stored = record.fields.get("output")
    found: Any = msgspec.json.decode(stored) if stored else None
    vectors = found.get("embeddings") if isinstance(found, dict) else None
    if not isinstance(vectors, list):
        return []
    return [v for v in vectors[:MOST_COMPARED] if isinstance(v, list) and _are_numbers(v)]


def nearest(vectors: Vectors) -> list[Pair]:
    """The pairs with the largest cosines, largest first."""
    pairs = [
        Pair(one, other, _cosine(vectors[one], vectors[other]))
        for one in range(len(vectors))
        for other in range(one + 1, len(vectors))
    ]
    return sorted(pairs, key=lambda pair: -pair.cosine)[:MOST_PAIRS]


def places(vectors: Vectors) -> list[tuple[float, float]]:
    """A point in the unit square for each vector: their two principal axes, by their directions alone."""
    count = len(vectors)
    table = [[_cosine(one, other) for other in vectors] for one in vectors]
    means = [sum(row) / count for row in table]
    mean = sum(means) / count if count else 0.0
    centred = [
        [value - means[i] - means[j] + mean for j, value in enumerate(row)]
        for i, row in enumerate(table)
    ]
    across, along = _axis(centred, []), []
    along = _axis(centred, across)
    return list(zip(_spread(across), _spread(along), strict=True))


def _axis(table: list[list[float]], before: list[float]) -> list[float]:
    """The coordinates on the axis along which the points differ most, at right angles to the one before."""
    vector = [math.sin(1.0 + 2.3 * i) for i in range(len(table))]
    size = math.hypot(*before) or 1.0
    unit = [value / size for value in before]
    for _ in range(ROUNDS):
        vector = [sum(a * b for a, b in zip(row, vector, strict=True)) for row in table]
        if before:
            shared = sum(a * b for a, b in zip(vector, unit, strict=True))
            vector = [a - shared * b for a, b in zip(vector, unit, strict=True)]
        length = math.hypot(*vector)
        if length < 1e-9:
            return [0.0] * len(table)
        vector = [value / length for value in vector]
    return vector


def _spread(values: Sequence[float]) -> list[float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    return [(value - low) / (high - low) if high - low > 1e-9 else 0.5 for value in values]


def _are_numbers(vector: list[Any]) -> bool:
    return all(isinstance(value, int | float) for value in vector)


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = math.hypot(*one) * math.hypot(*other)
    products = sum(a * b for a, b in zip(one, other, strict=False))
    return products / lengths if lengths else 0.0
