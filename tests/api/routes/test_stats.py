"""`GET /v1/stats`: what it shows, and of whom."""

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from api.http import auth
from api.http.caller import Client
from api.routes.stats import Stats
from api.services import of
from shared.domain.records import Finish
from shared.domain.states import JobState
from shared.settings import Settings
from shared.store.api_keys import Scope
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, NO_LIMIT, PlayedWorker, Rings

ECHO = {"model": "echo", "prompt": "hello"}


def shown(client: FlaskClient) -> Stats:
    answer = client.get("/v1/stats")
    assert answer.status_code == 200
    return Stats.model_validate(answer.json)


def test_models_are_shown_with_what_they_did(client: FlaskClient, worker: PlayedWorker) -> None:
    for _ in range(3):
        client.post("/v1/jobs", json=ECHO)
    worker.serve("a", "b")
    worker.fail("engine_error")

    models = {row.model: row for row in shown(client).models}

    assert list(models) == ["echo", "full", "llama", "encoder", "ranker", "own"]
    echo = models["echo"]
    assert echo.ended == {"succeeded": 1, "failed": 1}
    assert (echo.queue_depth, echo.running, echo.breaker.state) == (1, 0, "closed")
    assert echo.throughput == round(2 / echo.window_seconds, 3) > 0
    assert echo.tokens == 2
    assert echo.tokens_per_second == round(2 / echo.window_seconds, 3)
    latency = echo.latency_ms
    assert latency.p50 is not None and latency.p50 == latency.p95 == latency.p99
    assert echo.queue_wait_ms.p50 is not None
    assert models["own"].latency_ms.p50 is None and models["own"].ended == {}


def test_the_administrator_sees_every_client(client: FlaskClient, app: Flask) -> None:
    client.post("/v1/jobs", json=ECHO)
    app.test_client().get("/v1/jobs", headers={"Authorization": "Bearer wrong"})

    rows = {(row.client, row.policy): row for row in shown(client).limits}

    assert set(rows) == {
        ("key:default", "submit"),
        ("key:default", "other"),
        ("ip:127.0.0.1", "unauthorized"),
    }
    submit = rows["key:default", "submit"]
    assert (submit.quota, submit.used, submit.refused) == (NO_LIMIT, 1, 0)


@pytest.mark.parametrize("scopes", [{Scope.JOBS_READ, Scope.JOBS_WRITE}, {Scope.ADMIN}])
def test_everybody_else_sees_only_what_is_theirs(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, scopes: set[Scope]
) -> None:
    client.post("/v1/jobs", json=ECHO)
    other = Client("k2", "t2", frozenset(scopes), rpm=7)
    monkeypatch.setattr(auth, "DEFAULT_CLIENT", other)
    client.post("/v1/jobs", json=ECHO)

    rows = shown(client).limits

    assert {row.client for row in rows} == {"key:k2"}
    assert {(row.policy, row.quota, row.used) for row in rows} == {
        ("submit", 7, 1),
        ("other", 70, 1),
    }


@pytest.fixture
def unlimited(settings: Settings, store: JobStore, rings: Rings) -> Iterator[FlaskClient]:
    app = create_app(settings.model_copy(update={"rate_rpm": 0}), store=store, ring=rings)
    yield app.test_client()
    of(app).close()


def test_without_limits_there_is_no_usage(unlimited: FlaskClient) -> None:
    answer = unlimited.get("/v1/stats", headers=AUTH)

    assert answer.json["limits"] == []
    assert "RateLimit" not in answer.headers


def test_the_cache_shows_its_counts(client: FlaskClient, worker: PlayedWorker) -> None:
    for _ in range(3):
        client.post("/v1/jobs", json={"model": "llama", "prompt": "x"})
    worker.serve("y", model="llama")
    client.post("/v1/jobs", json={"model": "llama", "prompt": "x"})

    assert client.get("/v1/stats").json["cache"] == {"hits": 1, "shared": 2, "misses": 1}


def test_a_cache_that_is_off_has_no_counts(
    settings: Settings, store: JobStore, rings: Rings
) -> None:
    app = create_app(settings.model_copy(update={"cache_max_size": 0}), store=store, ring=rings)

    assert app.test_client().get("/v1/stats", headers=AUTH).json["cache"] is None
    of(app).close()


def test_what_waits_and_what_was_given_up_is_shown(
    client: FlaskClient, worker: PlayedWorker, store: JobStore
) -> None:
    for _ in range(2):
        client.post("/v1/jobs", json=ECHO)
    claim = worker.take()
    store.write([Finish(claim.id, claim.attempt, JobState.FAILED, dead=True)])

    found = shown(client)

    [echo] = [row for row in found.models if row.model == "echo"]
    assert echo.oldest_ms is not None and 0 <= echo.oldest_ms < 60_000
    assert echo.drained_in_ms is None, "too few claims to know the pace"
    assert found.dead_letters == 1
    assert (found.webhooks.waiting, found.webhooks.oldest_ms, found.webhooks.given_up) == (
        0,
        None,
        0,
    )
