"""Requests as observers see them: by route, each once, streams to their end; few series, come what may."""

import secrets
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client import values

from api.limit_plan import Limits, Plan
from api.observation import observe, routes
from api.services import of
from shared.telemetry.instruments import Instruments
from shared.telemetry.requests import RequestMetrics
from tests.api.conftest import PlayedWorker
from tests.shared.telemetry.conftest import Scrape, scrape

ECHO = {"model": "echo", "prompt": "hello"}


@pytest.fixture
def instruments(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Instruments:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    made = Instruments()
    observe(app, RequestMetrics(made, routes(app), ["echo"]))
    return made


def call(client: FlaskClient, method: str, path: str, **options: Any) -> Any:
    """One request to its very end, as a server takes it."""
    return client.open(path, method=method, buffered=True, **options)


def seen(instruments: Instruments) -> Scrape:
    return scrape(instruments.registry)


def test_a_request_is_counted_and_timed_under_its_route(
    instruments: Instruments, client: FlaskClient
) -> None:
    job_id = call(client, "POST", "/v1/jobs", json=ECHO).json["id"]
    call(client, "GET", f"/v1/jobs/{job_id}")
    call(client, "HEAD", "/v1/jobs/job_nothing")

    found = seen(instruments)
    route = {"method": "GET", "endpoint": "/v1/jobs/{job_id}"}
    assert found.sum("inference_requests_total", **route) == 2
    assert found.sum("inference_errors_4xx_total", **route) == 1
    assert found.sum("inference_request_duration_ms_count", **route) == 2
    assert found.sum("inference_request_duration_ms_sum", **route) > 0
    assert found.sum("inference_requests_total", method="POST", endpoint="/v1/jobs") == 1
    assert found.sum("inference_active_connections") == 0


def test_an_exception_is_a_5xx(
    app: Flask, instruments: Instruments, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    monkeypatch.setattr("api.jobs.read_submission", lambda: 1 / 0)
    assert call(client, "POST", "/v1/jobs", json=ECHO).status_code == 500
    assert seen(instruments).sum("inference_errors_5xx_total", endpoint="/v1/jobs") == 1


def test_an_open_stream_is_an_active_connection_until_it_ends(
    instruments: Instruments, client: FlaskClient, worker: PlayedWorker
) -> None:
    job_id = call(client, "POST", "/v1/jobs", json=ECHO).json["id"]
    stream = client.get(f"/v1/jobs/{job_id}/events")
    route = {"endpoint": "/v1/jobs/{job_id}/events"}
    next(stream.iter_encoded())
    assert seen(instruments).sum("inference_active_connections", **route) == 1
    assert seen(instruments).sum("inference_requests_total", **route) == 0

    worker.serve("hello")
    stream.close()
    assert seen(instruments).sum("inference_active_connections", **route) == 0
    assert seen(instruments).sum("inference_requests_total", **route) == 1


def test_probes_and_pages_are_not_counted(instruments: Instruments, client: FlaskClient) -> None:
    for path in ("/", "/health", "/ready", "/docs", "/openapi.json", "/metrics"):
        call(client, "GET", path)
    assert seen(instruments).sum("inference_requests_total") == 0


def test_a_thousand_random_paths_make_no_new_series(
    instruments: Instruments, client: FlaskClient
) -> None:
    before = {(s.name, *sorted(s.labels.items())) for s in seen(instruments).samples}

    for number in range(1000):
        junk = secrets.token_hex(6)
        path = (
            f"/{junk}",
            f"/v1/jobs/job_{junk}",
            f"/v1/{junk}?x={junk}",
            f"/v1/jobs/{junk}/events",
        )
        method = ("GET", "POST", "DELETE", "PUT", "OPTIONS", junk.upper())[number % 6]
        call(client, method, path[number % 4])

    found = seen(instruments)
    assert {(s.name, *sorted(s.labels.items())) for s in found.samples} == before
    assert found.sum("inference_requests_total") == 1000
    assert found.sum("inference_requests_total", endpoint="other") > 500
    assert len(before) < 1000


def test_refusals_by_the_rate_limiter_are_counted_by_route(
    instruments: Instruments, app: Flask, client: FlaskClient
) -> None:
    limits = of(app).limits
    object.__setattr__(of(app), "limits", Limits(Plan(rpm=1), limits.limiter))

    statuses = [call(client, "POST", "/v1/jobs", json=ECHO).status_code for _ in range(3)]

    assert statuses == [202, 429, 429]
    found = seen(instruments)
    assert found.sum("rate_limit_hits_total") == 2
    assert found.sum("rate_limit_hits_total", method="POST", endpoint="/v1/jobs") == 2
    assert found.sum("rate_limit_local_decisions_total") == 0
