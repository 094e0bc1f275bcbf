"""What users' models return becomes JSON, or a sentence that says why not."""

import datetime
import decimal
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from workers.engines.outputs import BadOutput, snapshot, to_json


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (np.float32(1.5), 1.5),
        (np.float64(0.1), 0.1),
        (np.int64(-3), -3),
        (np.uint64(2**63), 2**63),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array(2.0), 2.0),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (torch.tensor(1.5, dtype=torch.bfloat16), 1.5),
        (torch.tensor([True, False]), [True, False]),
        (torch.nn.Parameter(torch.ones(2)), [1.0, 1.0]),
        ({"score": np.float32(0.25), "rows": [torch.ones(1, 2)]}, {"score": 0.25, "rows": [[[1.0, 1.0]]]}),
        ([{"deep": ({"x": np.array([np.int8(1)])},)}], [{"deep": [{"x": [1]}]}]),
        ({np.int64(3): np.bool_(False), np.str_("k"): None}, {"3": False, "k": None}),
        (np.array([{"n": np.int8(1)}], dtype=object), [{"n": 1}]),
        (datetime.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        (np.datetime64("2026-01-02"), "2026-01-02"),
        (decimal.Decimal("1.10"), "1.10"),
        ({1}, [1]),
        (None, None),
        ("null", "null"),
    ],
)  # fmt: skip
def test_numbers_arrays_and_tensors_are_converted_wherever_they_stand(
    output: Any, said: Any
) -> None:
    assert msgspec.json.decode(to_json(output)) == said


@dataclass
class Scored:
    """As a model may return it: msgspec writes it as an object."""

    label: str
    score: Any


@pytest.mark.parametrize(
    "output",
    [
        float("nan"),
        np.float32("inf"),
        torch.tensor([1.0, float("-inf")]),
        {"fine": None, "deep": [{"x": np.array([np.nan])}]},
        {float("nan")},
        Scored("cat", float("nan")),
        {"rows": [Scored("cat", np.float32("inf"))]},
    ],
)
def test_what_is_not_a_number_is_named(output: Any) -> None:
    with pytest.raises(BadOutput, match="not a number"):
        to_json(output)


class Hostile:
    def tolist(self) -> Any:
        raise ZeroDivisionError("no list today")


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (object(), "object has no form in JSON"),
        (1j, "complex has no form"),
        ([np.complex64(1)], "complex has no form"),
        (torch.ones(2, device="meta"), "meta tensor"),
        ("\ud800", "surrogates"),
        (Hostile(), "no list today"),
        ((n for n in ()), "generator has no form"),
    ],
)
def test_what_json_has_no_word_for_says_why(output: Any, why: str) -> None:
    with pytest.raises(BadOutput, match=why):
        to_json(output)


def test_a_value_that_holds_itself_is_no_json() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(BadOutput, match="recursion"):
        to_json(endless)


def test_a_snapshot_does_not_change_with_the_models_own_object() -> None:
    own = {"step": [1]}
    taken = snapshot(own)
    own["step"].append(2)
    assert taken == {"step": [1]}
