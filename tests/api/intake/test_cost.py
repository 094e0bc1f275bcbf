"""What a request is estimated to cost: in tokens where its engine has them, else one."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from api.intake.cost import estimated
from shared.domain.models.catalog import Limits, ModelSpec
from shared.store.jobs import JobStore


@pytest.mark.parametrize(
    ("engine", "content", "params", "tokens"),
    [
        ("text-generation", "", {"max_new_tokens": None}, 64),
        ("text-generation", "twelve bytes", {"max_new_tokens": 7}, 10),
        ("text-generation", "twelve bytes", {"max_new_tokens": 7, "n": 3}, 24),
        ("text-generation", "twelve bytes", {"max_new_tokens": None, "n": 8}, 3 + 8 * 64),
        ("text-generation", [5] * 30, {"max_new_tokens": 7}, 37),
        ("vllm", "twelve bytes", {"max_new_tokens": 7}, 10),
        ("embedding", "ééé", {}, 2),
        ("embedding", ["one", "two"], {"normalize": None}, 4),
        ("embedding", [5] * 30, {}, 30),
        ("embedding", [[5] * 30, [5]], {}, 31),
        ("echo", "twelve bytes", {"max_new_tokens": 7}, 0),
        ("own.module:Engine", {"any": "json"}, {}, 0),
    ],
)
def test_tokens_are_estimated_from_bytes(
    engine: str, content: Any, params: dict[str, Any], tokens: int
) -> None:
    spec = ModelSpec(name="m", engine=engine, limits=Limits(max_new_tokens=64))

    assert estimated(spec, content, params).tokens == tokens


def test_a_job_that_names_no_length_is_expected_to_write_as_much_as_the_model_may() -> None:
    spec = ModelSpec(name="m", engine="text-generation", limits=Limits(max_new_tokens=64))

    asked = estimated(spec, "x", {"max_new_tokens": 64}).bytes
    assert asked > estimated(spec, "x", {"max_new_tokens": 1}).bytes > 0
    assert estimated(spec, "x", {"max_new_tokens": None}).bytes == asked


def test_the_first_of_several_texts_is_expected_twice() -> None:
    spec = ModelSpec(name="m", engine="text-generation", limits=Limits(max_new_tokens=64))

    one, four = (estimated(spec, "x", {"max_new_tokens": 10, "n": n}).bytes for n in (1, 4))
    assert four == 5 * one


def test_scores_of_tokens_are_expected_too() -> None:
    spec = ModelSpec(name="m", engine="text-generation", limits=Limits(max_new_tokens=64))

    plain, own, twenty = (
        estimated(spec, "x", {"max_new_tokens": 10, **more}).bytes
        for more in ({}, {"logprobs": True}, {"logprobs": True, "top_logprobs": 20})
    )
    assert own > plain
    assert twenty - plain == 21 * (own - plain)


def test_no_job_is_free() -> None:
    free, dear = (
        estimated(ModelSpec(name="m", engine=engine), "x" * 400, {})
        for engine in ("echo", "embedding")
    )
    assert (free.tokens, free.share) == (0, 1)
    assert (dear.tokens, dear.share) == (100, 100)


@pytest.mark.parametrize(
    ("body", "cost"),
    [
        ({"model": "llama", "prompt": "x" * 40, "params": {"max_new_tokens": 54}}, "64"),
        ({"model": "llama", "prompt": "x" * 40}, "74"),
        ({"model": "echo", "prompt": "x" * 40}, "1"),
    ],
)
def test_a_job_carries_its_cost_to_the_queue(
    client: FlaskClient, store: JobStore, body: dict[str, Any], cost: str
) -> None:
    job = client.post("/v1/jobs", json=body).json
    assert store.get(job["id"]).fields["cost"] == cost
