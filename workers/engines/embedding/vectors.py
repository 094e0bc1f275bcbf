"""A text's vector as an answer has it: cut, normalized, as numbers or as base64."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from shared.domain.errors import InputRefused
from workers.engines.sentence_layout.recipe import Form
from workers.engines.sentence_layout.sparse import strongest

Encoding = Literal["float", "base64"]
FLOAT32, FLOAT16, UINT32 = "<f4", "<f2", "<u4"
"""Little-endian, as base64 has them."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a job asks for. `route` and `task` are of the model; None leaves `normalize` to the model."""

    route: str = ""
    task: str | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    encoding: Encoding = "float"


def dense(
    found: Sequence[torch.Tensor], wish: Wish, *, normalizes: bool, truncate: int | None
) -> list[Any]:
    """n vectors [width] of the model to rows of an answer.

    What the model itself normalizes is cut to `truncate` afterwards, as sentence-transformers does; what a
    job cuts is normalized anew.
    """
    vectors = torch.stack(list(found))
    if normalizes and wish.normalize is None:
        vectors = functional.normalize(vectors, dim=1)
    vectors = vectors[:, :truncate]
    if wish.dimensions is not None:
        vectors = vectors[:, : wish.dimensions]
    if wish.normalize or (wish.dimensions is not None and wish.normalize is None):
        vectors = functional.normalize(vectors, dim=1)
    return _written(vectors, wish.encoding, FLOAT32)


def sparse(found: Sequence[torch.Tensor], wish: Wish, most: int | None) -> list[Any]:
    """n vectors [vocabulary] to rows of an answer: where they are not 0, and what they are there."""
    rows: list[Any] = []
    for vector in found:
        kept = strongest(vector, most)
        if wish.normalize:
            kept = functional.normalize(kept, dim=0)
        places = kept.nonzero()[:, 0]
        values = kept[places]
        if wish.encoding == "base64":
            rows.append({"indices": packed(places, UINT32), "values": packed(values, FLOAT32)})
        else:
            rows.append({"indices": places.tolist(), "values": values.tolist()})
    return rows


def multi(found: Sequence[torch.Tensor], kept: Sequence[Sequence[int]], wish: Wish) -> list[Any]:
    """n texts' vectors [tokens, width] to rows of an answer, of the tokens that are `kept`."""
    rows: list[Any] = []
    for tokens, places in zip(found, kept, strict=True):
        chosen = tokens[list(places)]
        if wish.normalize:
            chosen = functional.normalize(chosen, dim=-1)
        rows.append(packed(chosen, FLOAT16) if wish.encoding == "base64" else chosen.tolist())
    return rows


def packed(tensor: torch.Tensor, number: str) -> str:
    """Its numbers in order, as base64."""
    array = tensor.cpu().numpy().astype(np.dtype(number), copy=False)
    return base64.b64encode(array.tobytes()).decode()


def _written(vectors: torch.Tensor, encoding: Encoding, number: str) -> list[Any]:
    if encoding != "base64":
        rows: list[Any] = vectors.tolist()
        return rows
    return [packed(vector, number) for vector in vectors]


def wished(
    params: Mapping[str, Any], form: Form, route: str, widest: int, task: str | None
) -> Wish:
    """What a job's params ask for. Raises `InputRefused` for what the model does not have."""
    dimensions = params.get("dimensions")
    if dimensions is not None:
        if form != "dense":
            raise InputRefused(f"dimensions: this model makes {form} vectors, which are not cut.")
        if dimensions > widest:
            raise InputRefused(
                f"dimensions: {dimensions} is more than the {widest} that this model's vectors have."
            )
    normalize = params.get("normalize")
    return Wish(
        route,
        task,
        None if normalize is None else bool(normalize),
        dimensions,
        "base64" if params.get("encoding") == "base64" else "float",
    )
