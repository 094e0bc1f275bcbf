"""Which requests are the same, and what is given to a job that did not run."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.domain.models.catalog import Cache, Limits, ModelSpec
from shared.domain.models.model_version import Versions, fingerprint
from shared.domain.sharing import Result, deterministic, digest_of

LLAMA = ModelSpec(name="llama", engine="text-generation")
PIPELINE = ModelSpec(name="p", engine="pipeline", cache=Cache(deterministic=True))
OWN = ModelSpec(name="own", engine="package.module:Class")
PARAMS = {"temperature": 0.0, "seed": None, "top_p": 1.0}


def digest(tenant: str = "t", content: Any = "x", version: str = "v", **params: Any) -> str:
    return digest_of(tenant, LLAMA, version, content, {**PARAMS, **params})


def test_everything_that_an_answer_depends_on_counts() -> None:
    asked = [
        digest(),
        digest("u"),
        digest(content="y"),
        digest(version="w"),
        digest(top_p=0.5),
        digest(temperature=1.0, seed=1),
        digest(temperature=1.0, seed=2),
        digest_of("t", OWN, "v", "x", PARAMS),
    ]
    assert len(set(asked)) == len(asked)


def test_the_models_limit_counts_where_a_request_names_none() -> None:
    models = [
        LLAMA.model_copy(update={"limits": Limits(max_new_tokens=most)}) for most in (64, 128)
    ]

    def digests(**params: Any) -> set[str]:
        return {digest_of("t", spec, "v", "x", {**PARAMS, **params}) for spec in models}

    assert len(digests(max_new_tokens=None)) == 2
    assert len(digests(max_new_tokens=32)) == 1


def test_neither_the_order_of_members_nor_a_greedy_seed_counts() -> None:
    assert digest(content={"a": 1, "b": 2}) == digest(content={"b": 2, "a": 1})
    assert digest(seed=1) == digest(seed=2) == digest()


@pytest.mark.parametrize(
    ("spec", "params", "expected"),
    [
        (LLAMA, {"temperature": 0.0, "seed": None}, True),
        (LLAMA, {"temperature": 0.5, "seed": None}, False),
        (LLAMA, {"temperature": 0.5, "seed": 0}, True),
        (ModelSpec(name="e", engine="embedding"), {}, True),
        (ModelSpec(name="e", engine="echo"), {}, False),
        (PIPELINE, {}, True),
        (PIPELINE, {"files": True}, False),
        (OWN, {}, False),
        (OWN.model_copy(update={"cache": Cache(deterministic=True)}), {}, True),
    ],
)
def test_what_is_deterministic(spec: ModelSpec, params: dict[str, Any], expected: bool) -> None:
    assert deterministic(spec, params) is expected


def test_a_borrowed_result_costs_nothing_of_the_device() -> None:
    used = {"prompt_tokens": 3, "completion_tokens": 2, "device_seconds": 1.5, "run_ms": 7.0}
    borrowed = json.loads(Result(b"1", json.dumps(used).encode()).borrowed.usage)
    assert borrowed["prompt_tokens"] == borrowed["cached_tokens"] == 3
    assert borrowed["completion_tokens"] == 2
    assert borrowed["device_seconds"] == borrowed["run_ms"] == borrowed["attempts"] == 0


def test_a_fingerprint_follows_the_files_and_the_entry(tmp_path: Path) -> None:
    spec = LLAMA.model_copy(update={"path": tmp_path})
    seen = {fingerprint(spec), fingerprint(spec)}
    (tmp_path / "model.safetensors").write_bytes(b"a")
    seen |= {fingerprint(spec), fingerprint(spec.model_copy(update={"version": "2"}))}
    assert len(seen) == 3
    assert fingerprint(spec.model_copy(update={"fallback": "other"})) in seen


def test_files_are_looked_at_every_few_seconds(tmp_path: Path) -> None:
    now = [0.0]
    versions = Versions(lambda: now[0])
    spec = LLAMA.model_copy(update={"path": tmp_path})
    first = versions.of(spec)
    (tmp_path / "model.safetensors").write_bytes(b"a")
    assert versions.of(spec) == first
    now[0] = 6.0
    assert versions.of(spec) != first
