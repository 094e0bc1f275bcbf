"""Texts whose positions depend on their length are those of `generate`, in one attempt or in two."""

from pathlib import Path
from typing import Any

import pytest

from shared.domain.models.catalog import Batch
from tests.engine_driver import drive, resumed
from tests.tiny_models import LONGROPE, save_causal, text_spec
from tests.zoo.table import MODELS, WINDOW
from tests.zoo.visit import visit
from workers.engines.base import Work
from workers.engines.text_generation.engine import TextGeneration
from workers.engines.text_generation.forward.rope import LengthDependence, length_dependence

ACROSS = ((WINDOW - 14, 30), (WINDOW, 9), (WINDOW - 1, 9), (WINDOW + 6, 14), (5, 8))
"""Texts as (prompt, new tokens) that grow past the window, begin behind it, or never reach it."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("phi3, longrope", LengthDependence(WINDOW, restarts=True, moving=False)),
        ("llama, longrope", LengthDependence(WINDOW, restarts=False, moving=False)),
        ("llama, dynamic NTK", LengthDependence(WINDOW, restarts=False, moving=True)),
        ("mistral, window of 16", None),
    ],
)
def test_how_a_model_depends_on_length_is_asked_of_itself(name: str, expected: Any) -> None:
    assert length_dependence(MODELS[name].make()) == expected


@pytest.mark.parametrize(
    ("name", "batching"),
    [
        ("phi3, longrope", "packed"),
        ("llama, longrope", "packed"),
        ("phimoe, longrope", "packed"),
        ("llama, dynamic NTK", "stacked"),
    ],
)
def test_texts_that_cross_the_window_are_those_of_generate_and_can_be_resumed(
    name: str, batching: str
) -> None:
    found = visit(MODELS[name], ACROSS, long=True)

    assert found.batching == batching, found.reason
    assert found.wrong == ()


@pytest.fixture(scope="module")
def phi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read again from its first token when it grows past 24 tokens."""
    return save_causal(tmp_path_factory.mktemp("phi"), "Phi3Config", **LONGROPE)


def loaded(path: Path, *, reuse: bool = True) -> TextGeneration:
    engine = TextGeneration(text_spec(path, batch=Batch(max_size=4, prefix_reuse=reuse)))
    assert engine.load().details["batching"] == "packed"
    return engine


@pytest.mark.parametrize("prompt", [23, 24, 30])
def test_scores_of_a_resumed_text_are_those_from_before_it_grew_long(
    phi: Path, prompt: int
) -> None:
    engine = loaded(phi)
    params = {"max_new_tokens": 8, "logprobs": True, "temperature": 0.7}
    work = Work("x", [n * 7 % 300 for n in range(prompt)], params, seed=3)
    whole = drive(engine, [work])
    said = whole.finished("x").output["logprobs"]

    for cut in (1, 2, len(whole.pieces["x"])):
        ran = drive(engine, [resumed(work, whole.pieces["x"][:cut])])

        assert ran.text("x") == whole.text("x")
        again = ran.finished("x").output["logprobs"]
        assert [one["token_id"] for one in again] == [one["token_id"] for one in said]
        for one, other in zip(again, said, strict=True):
            assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-3)


def test_long_texts_and_others_share_no_beginning(phi: Path) -> None:
    prompts = {"short": 20, "long": 40, "as long": 39, "short again": 19, "grows": 20}
    count = {"grows": 30}
    works = {
        name: Work(name, list(range(3, 3 + size)), {"max_new_tokens": count.get(name, 2)}, seed=0)
        for name, size in prompts.items()
    }
    engine, apart = loaded(phi), loaded(phi, reuse=False)
    cached = {}
    for name in ("short", "long", "as long", "short again", "grows", "long"):
        ran = drive(engine, [works[name]])
        cached[name] = ran.finished(name).usage["cached_tokens"]
        assert ran.text(name) == drive(apart, [works[name]]).text(name)

    assert cached == {"short": 0, "long": 32, "as long": 32, "short again": 16, "grows": 16}


def test_choices_of_a_job_part_where_one_has_grown_long(phi: Path) -> None:
    params = {"max_new_tokens": 12, "temperature": 1.0, "n": 4}
    works = [Work(str(n), list(range(5 + n, 25 + n)), params, seed=n) for n in range(3)]
    expected = [drive(loaded(phi, reuse=False), [work]).finished(work.id).output for work in works]

    ran = drive(loaded(phi), works)

    assert [ran.finished(work.id).output for work in works] == expected
