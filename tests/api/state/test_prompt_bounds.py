"""Prompts that cannot fit are refused before they are stored, by what the model's workers tell."""

from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from api.state.prompt_bounds import FRESH, KnownBounds
from shared.domain.errors import InputRefused
from shared.domain.models.catalog import ModelSpec
from shared.store.jobs import JobStore

USER = {"role": "user", "content": "hi"}
IMAGE = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
TOOL = {"type": "function", "function": {"name": "f"}}
BOUND = {"tokens": 512, "bytes": 2048}


def tell(store: JobStore, model: str, worker: str, bounds: Any) -> None:
    """What a worker's report says of its engine."""
    engine = {"device": "cpu", **({"prompt_bounds": bounds} if bounds else {})}
    store.beat(model, worker, msgspec.json.encode({"state": "ready", "engine": engine}), [])


def waiting(store: JobStore, model: str) -> int:
    return store.status(model).waiting


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/infer", "/v1/infer/stream"])
def test_a_prompt_that_cannot_fit_is_refused_and_leaves_nothing_behind(
    client: FlaskClient, store: JobStore, path: str
) -> None:
    tell(store, "llama", "w", BOUND)
    keys = set(store.redis.scan_iter(f"{store.keys('job', '')}*"))

    answer = client.post(path, json={"model": "llama", "prompt": "x" * 2049})

    assert answer.status_code == 422
    assert answer.json["code"] == "prompt_too_long"
    assert "2049 bytes" in answer.json["detail"] and "2048" in answer.json["detail"]
    assert waiting(store, "llama") == 0
    assert set(store.redis.scan_iter(f"{store.keys('job', '')}*")) == keys


@pytest.mark.parametrize(
    ("model", "bounds", "fits", "exceeds"),
    [
        ("llama", BOUND, "x" * 2048, "é" * 1025),
        (
            "llama",
            {**BOUND, "roles": ["user"]},
            {"messages": [{"role": "system", "content": "x" * 9999}]},
            {"messages": [{"role": "user", "content": "x" * 1025}] * 2},
        ),
        (
            "llama",
            BOUND,
            {"messages": [{"role": "user", "content": "x" * 9999}]},
            "x" * 9999,
        ),
        ("encoder", {"tokens": 512, "words": 512}, ["x " * 512] * 3, ["x", "x " * 513]),
        ("encoder", {"tokens": 512}, ["x " * 5000], None),
    ],
)
def test_what_could_fit_is_taken(
    client: FlaskClient, store: JobStore, model: str, bounds: Any, fits: Any, exceeds: Any
) -> None:
    tell(store, model, "w", bounds)

    assert client.post("/v1/jobs", json={"model": model, "input": fits}).status_code == 202
    if exceeds is not None:
        answer = client.post("/v1/jobs", json={"model": model, "input": exceeds})
        assert (answer.status_code, answer.json["code"]) == (422, "prompt_too_long")
    assert waiting(store, model) == 1


def test_where_nobody_says_what_fits_the_engine_decides(
    client: FlaskClient, store: JobStore
) -> None:
    assert client.post("/v1/jobs", json={"model": "llama", "prompt": "x" * 9999}).status_code == 202


def test_the_widest_worker_decides(store: JobStore) -> None:
    spec = ModelSpec(name="m", engine="text-generation")
    now = [0.0]
    known = KnownBounds(store, lambda: now[0])
    tell(store, "m", "narrow", BOUND)
    tell(store, "m", "wide", {"tokens": 512, "bytes": 4096})

    known.check(spec, "x" * 4096, {})
    known.check(spec, "x" * 4097, {"truncate": "left"})
    with pytest.raises(InputRefused, match="4096"):
        known.check(spec, "x" * 4097, {})

    tell(store, "m", "silent", None)
    now[0] = FRESH / 2
    with pytest.raises(InputRefused):
        known.check(spec, "x" * 4097, {})
    now[0] = FRESH
    known.check(spec, "x" * 4097, {})


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"prompt": [1, 400]}, "invalid_input"),
        ({"prompt": [1] * 9}, "prompt_too_long"),
        ({"prompt": "a", "params": {"logit_bias": {"400": 1}}}, "invalid_input"),
        ({"prompt": "a", "params": {"stop_token_ids": [400]}}, "invalid_input"),
        ({"input": {"messages": [USER], "tools": [TOOL]}}, "invalid_input"),
        ({"prompt": "a", "params": {"n": 9}}, "invalid_request"),
        ({"input": {"messages": [IMAGE]}}, "invalid_request"),
    ],
)
def test_what_a_model_cannot_do_is_refused_and_leaves_nothing_behind(
    client: FlaskClient, store: JobStore, body: dict[str, Any], code: str
) -> None:
    accepted = {"vocabulary": 400, "chat": ["messages"]}
    engine = {"prompt_bounds": {"tokens": 8}, "accepted": accepted}
    store.beat("llama", "w", msgspec.json.encode({"state": "ready", "engine": engine}), [])

    answer = client.post("/v1/jobs", json={"model": "llama", **body})

    assert (answer.status_code, answer.json["code"]) == (422, code)
    assert waiting(store, "llama") == 0
    assert not list(store.redis.scan_iter(f"{store.keys('job', '')}*"))
