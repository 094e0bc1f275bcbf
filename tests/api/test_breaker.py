"""What callers see while a model's breaker is open: refused, parked, or answered by another model."""

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from flask.testing import FlaskClient

from api.app import create_app
from api.routes.models import Model, ModelList
from api.services import of
from shared.settings import load_settings
from shared.store.breaker import BreakerPolicy
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, TOKEN, PlayedWorker, Rings

POLICY = BreakerPolicy(threshold=1, cooldown=30_000)
CATALOGUE = """
models:
  main: {engine: echo, fallback: small}
  small: {engine: echo, fallback: tiny, limits: {max_queued: 2}}
  tiny: {engine: echo}
  alone: {engine: echo}
  picky: {engine: text-generation, path: ., fallback: strict}
  strict: {engine: text-generation, path: ., limits: {max_new_tokens: 4}}
"""
Meanwhile = Callable[[Callable[[], object]], None]


@pytest.fixture
def client(
    tmp_path: Path, redis_url: str, prefix: str, store: JobStore, rings: Rings
) -> Iterator[FlaskClient]:
    config = tmp_path / "catalog.yaml"
    config.write_text(CATALOGUE)
    settings = load_settings(
        TRUTHGPT_API_TOKEN=TOKEN,
        TRUTHGPT_CONFIG=config,
        REDIS_URL=redis_url,
        TRUTHGPT_KEY_PREFIX=prefix,
    )
    app = create_app(settings, store=store, ring=rings)
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = AUTH["Authorization"]
    yield client
    of(app).close()


def trip(store: JobStore, *models: str) -> None:
    for model in models:
        assert store.host_lost(model, POLICY, "w") == ("closed", "open")


def cool(store: JobStore, model: str) -> None:
    store.redis.hset(store.keys("breaker", model), "until", "1")


@pytest.mark.parametrize("path", ["/v1/infer", "/v1/infer/stream"])
def test_a_call_that_waits_is_refused_with_the_time_that_is_left(
    client: FlaskClient, store: JobStore, path: str
) -> None:
    trip(store, "alone")
    response = client.post(path, json={"model": "alone", "prompt": "x"})
    assert (response.status_code, response.json["code"]) == (503, "model_unavailable")
    [after] = response.headers.getlist("Retry-After")
    assert 5 < int(after) <= 30, "not the usual one"
    assert client.get("/v1/jobs").json["data"] == []
    assert list(store.redis.scan_iter(store.keys("readers", "*"))) == []


@pytest.mark.parametrize("headers", [{}, {"Prefer": "wait=0"}])
def test_a_job_is_taken_in_and_waits(
    client: FlaskClient, store: JobStore, headers: dict[str, str]
) -> None:
    trip(store, "alone")
    made = client.post("/v1/jobs", json={"model": "alone", "prompt": "x"}, headers=headers)
    assert (made.status_code, made.json["status"]) == (202, "queued")
    assert "fallback_from" not in made.json
    assert store.claim("alone", 1, "w").claims == []


def test_in_half_open_one_waiting_call_is_the_probe(
    client: FlaskClient, store: JobStore, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    trip(store, "alone")
    cool(store, "alone")
    body = {"model": "alone", "prompt": "x"}

    first = client.post("/v1/infer?timeout=0", json=body)
    second = client.post("/v1/infer?timeout=0", json=body)

    assert (first.status_code, second.status_code) == (202, 503)
    assert int(second.headers["Retry-After"]) == 1


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/infer?timeout=0"])
def test_the_fallback_answers_and_the_job_says_so(
    client: FlaskClient, store: JobStore, worker: PlayedWorker, rings: Rings, path: str
) -> None:
    trip(store, "main")
    made = client.post(path, json={"model": "main", "prompt": "x"}).json
    assert (made["model"], made["fallback_from"]) == ("small", "main")
    of(client.application).notifier.stop()
    assert rings.models == ["small"]

    assert worker.serve("x", model="small").id == made["id"]
    ended = client.get(f"/v1/jobs/{made['id']}").json
    assert (ended["status"], ended["fallback_from"]) == ("succeeded", "main")
    assert client.get("/v1/jobs").json["data"][0]["fallback_from"] == "main"


def test_a_waiting_call_gets_the_fallbacks_result(
    client: FlaskClient, store: JobStore, worker: PlayedWorker, meanwhile: Meanwhile
) -> None:
    trip(store, "main")
    meanwhile(lambda: worker.serve("yes", model="small"))
    ended = client.post("/v1/infer", json={"model": "main", "prompt": "x"})
    assert ended.status_code == 200
    assert (ended.json["model"], ended.json["fallback_from"]) == ("small", "main")


def test_fallbacks_that_are_open_or_full_are_passed_over(
    client: FlaskClient, store: JobStore
) -> None:
    trip(store, "main")
    body = {"model": "main", "prompt": "x"}
    assert [client.post("/v1/jobs", json=body).json["model"] for _ in range(3)] == [
        *("small", "small", "tiny")
    ]
    trip(store, "small", "tiny")
    assert client.post("/v1/jobs", json=body).json["model"] == "main", "parked with its own model"
    refused = client.post("/v1/infer", json=body)
    assert (refused.status_code, refused.json["code"]) == (503, "model_unavailable")
    assert "main" in refused.json["detail"]


def test_a_fallback_that_cannot_take_the_request_is_none(
    client: FlaskClient, store: JobStore
) -> None:
    trip(store, "picky")
    long = {"model": "picky", "prompt": "x", "params": {"max_new_tokens": 5}}
    assert client.post("/v1/infer", json=long).status_code == 503
    assert client.post("/v1/jobs", json=long).json["model"] == "picky"
    short = {**long, "params": {"max_new_tokens": 4, "seed": 11}}
    assert client.post("/v1/jobs", json=short).json["model"] == "strict"
    [claim] = store.claim("strict", 1, "w").claims
    assert msgspec.json.decode(claim.request)["seed"] == 11


def test_an_idempotency_key_holds_over_the_fallback(client: FlaskClient, store: JobStore) -> None:
    trip(store, "main")
    body, headers = {"model": "main", "prompt": "x"}, {"Idempotency-Key": "k"}
    first = client.post("/v1/jobs", json=body, headers=headers)
    while_open = client.post("/v1/infer?timeout=0", json=body, headers=headers)
    store.reset_breaker("main")
    closed = client.post("/v1/jobs", json=body, headers=headers)
    trip(store, "small")
    store.reset_breaker("main")
    other = client.post("/v1/jobs", json={**body, "prompt": "y"}, headers=headers)

    assert first.json["model"] == "small"
    assert while_open.json["id"] == closed.json["id"] == first.json["id"]
    assert closed.headers["Idempotent-Replayed"] == "true"
    assert other.json["code"] == "idempotency_mismatch"


def test_models_show_their_breakers(client: FlaskClient, store: JobStore) -> None:
    own = {"state": "half_open", "retry_after_ms": 0}
    store.beat("alone", "w1", msgspec.json.encode({"state": "ready", "breaker": own}), [])
    trip(store, "alone")

    shown = {m.id: m for m in ModelList.model_validate(client.get("/v1/models").json).data}

    breaker = shown["alone"].breaker
    assert (breaker.state, breaker.opened, breaker.failures) == ("open", 1, 1)
    assert breaker.until is not None and 0 < breaker.retry_after_ms <= 30_000
    assert breaker.changed_at is not None and breaker.changed_at < breaker.until
    assert shown["alone"].workers[0]["breaker"] == own
    assert (shown["tiny"].breaker.state, shown["tiny"].breaker.until) == ("closed", None)
    assert (shown["main"].fallback, shown["alone"].fallback) == ("small", None)


def test_a_breaker_is_reset(client: FlaskClient, store: JobStore) -> None:
    trip(store, "alone")
    after = Model.model_validate(client.post("/v1/models/alone/breaker/reset").json)
    assert (after.breaker.state, after.breaker.opened) == ("closed", 1)
    assert client.post("/v1/models/nope/breaker/reset").status_code == 404
    assert (
        client.application.test_client().post("/v1/models/alone/breaker/reset").status_code == 401
    )
