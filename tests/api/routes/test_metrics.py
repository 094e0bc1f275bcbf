"""`/metrics`: who may see it, in which format, and that no outage makes it hang."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from api.routes.metrics import EXPOSITION
from shared.domain.records import NewJob, new_job_id
from shared.redis.connection import connect
from shared.settings import Settings, key_secret
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from shared.telemetry.metrics.exposition import Exposition
from shared.telemetry.metrics.queues import QueueCollector, QueueReader
from tests.api.conftest import AUTH, Rings
from tests.conftest import RedisServer, eventually
from tests.shared.telemetry.conftest import Scrape


@pytest.fixture
def shown(app: Flask, store: JobStore) -> Flask:
    """The app with the queues of its store on its page."""
    app.extensions[EXPOSITION] = Exposition(QueueCollector(QueueReader(store, ["echo"])))
    return app


@pytest.fixture
def scraper(shown: Flask) -> FlaskClient:
    """Calls the app with the default tenant's token."""
    client = shown.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = AUTH["Authorization"]
    return client


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.2.3", ""])
def test_nobody_reads_it_without_a_token_from_wherever(shown: Flask, address: str) -> None:
    client = shown.test_client()
    from_there = {"REMOTE_ADDR": address}

    assert client.get("/metrics", environ_overrides=from_there).status_code == 401
    wrong = {"Authorization": "Bearer nothing-that-we-know"}
    assert client.get("/metrics", headers=wrong, environ_overrides=from_there).status_code == 401
    assert client.get("/metrics", headers=AUTH, environ_overrides=from_there).status_code == 200


@pytest.mark.parametrize(
    ("tenant", "scopes", "status"),
    [
        ("default", {Scope.METRICS}, 200),
        ("default", {Scope.ADMIN}, 200),
        ("default", {Scope.JOBS_READ, Scope.JOBS_WRITE}, 403),
        ("other", {Scope.METRICS}, 403),
        ("other", {Scope.ADMIN}, 403),
        ("other", set(Scope), 403),
    ],
)
def test_a_key_reads_it_by_its_scope_and_for_the_operator_alone(
    shown: Flask,
    settings: Settings,
    store: JobStore,
    tenant: str,
    scopes: set[Scope],
    status: int,
) -> None:
    keys = ApiKeys(store.redis, store.keys, Signer(key_secret(settings)))
    _, token = keys.create(Grant(tenant, frozenset(scopes)))

    answer = shown.test_client().get("/metrics", headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == status


def test_the_token_for_metrics_opens_them_and_nothing_else(
    settings: Settings, store: JobStore, rings: Rings
) -> None:
    token = "for-the-scraper-0123"
    app = create_app(settings.model_copy(update={"metrics_token": token}), store=store, ring=rings)
    app.extensions[EXPOSITION] = Exposition(QueueCollector(QueueReader(store, ["echo"])))
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"

    assert client.get("/metrics").status_code == 200
    for path in ("/v1/jobs", "/v1/models", "/v1/stats"):
        assert client.get(path).status_code == 401, path


def test_the_format_is_the_one_asked_for(scraper: FlaskClient) -> None:
    plain = scraper.get("/metrics")
    open_metrics = scraper.get(
        "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"}
    )
    assert plain.content_type.startswith("text/plain; version=0.0.4")
    assert open_metrics.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert open_metrics.data.endswith(b"# EOF\n")


def test_without_metrics_it_is_404(client: FlaskClient) -> None:
    response = client.get("/metrics")
    assert response.status_code == 404 and "ENABLE_METRICS" in response.json["detail"]


def test_queues_and_engines_are_those_of_the_store(scraper: FlaskClient, store: JobStore) -> None:
    store.create(NewJob(new_job_id(), "echo", "t", b"{}"), max_queued=9)
    store.beat("echo", "w1", b'{"state":"starting"}', [])
    store.beat("echo", "w2", b'{"state":"busy"}', [])

    found = Scrape(scraper.get("/metrics").text)

    assert found.sum("inference_redis_up") == 1
    assert found.sum("inference_queue_depth", model="echo") == 1
    assert found.sum("inference_engine_state", state="starting") == 1
    assert found.sum("inference_engine_state", state="busy") == 1
    assert found.sum("inference_engine_state", state="failed") == 0
    assert {s.labels["state"] for s in found.named("inference_engine_state")} >= {"failed", "ready"}


def test_breaker_webhooks_and_memory_are_those_of_redis(
    scraper: FlaskClient, store: JobStore
) -> None:
    seconds, _ = store.redis.time()
    store.redis.zadd(store.keys("pending"), {"msg_1": 1, "msg_2": 2})
    store.redis.zadd(store.keys("tellers"), {"t": (seconds - 60) * 1000})
    store.redis.hset(store.keys("breaker", "echo"), mapping={"state": "open", "until": 2**50})
    for name in ("pending", "tellers", "breaker:echo"):
        store.redis.expire(f"{store.keys.prefix}:{name}", 60)

    found = Scrape(scraper.get("/metrics").text)

    assert found.sum("circuit_breaker_state", model="echo") == 2
    assert found.sum("webhook_backlog") == 2
    assert 60 <= found.sum("webhook_overdue_seconds") < 120
    assert found.sum("inference_redis_memory_bytes") == pytest.approx(
        store.redis.info("memory")["used_memory"], rel=0.5
    )
    assert found.sum("inference_redis_memory_limit_bytes") == 0


def test_a_redis_that_does_not_tell_its_memory_hides_nothing_else(own_redis: RedisServer) -> None:
    redis = connect(own_redis.url, 5.0)
    redis.execute_command("ACL", "SETUSER", "default", "-info")
    found = Scrape(
        Exposition(QueueCollector(QueueReader(JobStore(redis), ["echo"]))).render("")[1].decode()
    )
    redis.close()
    assert found.sum("inference_redis_up") == 1 and found.named("webhook_backlog")
    assert found.named("inference_redis_memory_bytes") == []


@pytest.fixture
def slow_store(own_redis: RedisServer) -> Iterator[JobStore]:
    redis = connect(own_redis.url, 20.0, retries=0)
    yield JobStore(redis, "away")
    redis.close()


def test_a_redis_that_does_not_answer_costs_a_scrape_a_moment(
    own_redis: RedisServer, slow_store: JobStore
) -> None:
    page = Exposition(QueueCollector(QueueReader(slow_store, ["echo"], patience=0.1)))
    assert Scrape(page.render("")[1].decode()).sum("inference_redis_up") == 1
    assert own_redis.process is not None
    own_redis.process.send_signal(signal.SIGSTOP)
    try:
        # What was found is kept for a second.
        eventually(lambda: Scrape(page.render("")[1].decode()).sum("inference_redis_up") == 0)
        for _ in range(3):
            found = Scrape(page.render("")[1].decode())
            assert found.sum("inference_redis_up") == 0
            assert found.named("inference_queue_depth") == []
    finally:
        own_redis.process.send_signal(signal.SIGCONT)


OFF_THE_LOOP = """
from gevent import monkey
monkey.patch_all()
import os
import gevent
from api.routes.metrics import OffTheLoop
heard, said = os.pipe()
gevent.spawn(os.write, said, b"the loop goes on")
print(OffTheLoop()(lambda: os.read(heard, 100)).decode())
"""


def test_a_page_that_is_written_does_not_hold_up_the_loop() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFF_THE_LOOP], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("the loop goes on\n", "")
