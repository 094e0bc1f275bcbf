"""Requests as observers see them: by route, each once, streams to their end; few series, come what may."""

import secrets
from typing import Any, NamedTuple

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client import values

from api.http.observation import observe, routes
from api.services import of
from api.state.limit_plan import Limits, Plan
from shared.telemetry.metrics.instruments import Instruments
from shared.telemetry.metrics.requests import MOST, RequestMetrics
from tests.api.conftest import PlayedWorker
from tests.shared.telemetry.conftest import Scrape, scrape

ECHO = {"model": "echo", "prompt": "hello"}
SERIES_A_ROUTE = 32
"""Counters, a histogram with its buckets, and when each was made."""


class Kept(NamedTuple):
    """What an app's requests are written into, and who writes."""

    instruments: Instruments
    metrics: RequestMetrics


@pytest.fixture
def kept(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    instruments = Instruments()
    metrics = RequestMetrics(instruments, routes(app), ["echo"])
    observe(app, metrics)
    return Kept(instruments, metrics)


def call(client: FlaskClient, method: str, path: str, **options: Any) -> Any:
    """One request to its very end, as a server takes it."""
    return client.open(path, method=method, buffered=True, **options)


def seen(kept: Kept) -> Scrape:
    kept.metrics.tick()
    return scrape(kept.instruments.registry)


def test_a_request_is_counted_and_timed_under_its_route(kept: Kept, client: FlaskClient) -> None:
    job_id = call(client, "POST", "/v1/jobs", json=ECHO).json["id"]
    call(client, "GET", f"/v1/jobs/{job_id}")
    call(client, "HEAD", "/v1/jobs/job_nothing")

    found = seen(kept)
    route = {"method": "GET", "endpoint": "/v1/jobs/{job_id}"}
    assert found.sum("inference_requests_total", **route) == 2
    assert found.sum("inference_errors_4xx_total", **route) == 1
    assert found.sum("inference_request_duration_ms_count", **route) == 2
    assert found.sum("inference_request_duration_ms_sum", **route) > 0
    assert found.sum("inference_requests_total", method="POST", endpoint="/v1/jobs") == 1
    assert found.sum("inference_active_connections") == 0


def test_an_exception_is_a_5xx(
    app: Flask, kept: Kept, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    monkeypatch.setattr("api.intake.submission.submission_of", lambda *_: 1 / 0)
    assert call(client, "POST", "/v1/jobs", json=ECHO).status_code == 500
    assert seen(kept).sum("inference_errors_5xx_total", endpoint="/v1/jobs") == 1


def test_an_open_stream_is_an_active_connection_until_it_ends(
    kept: Kept, client: FlaskClient, worker: PlayedWorker
) -> None:
    job_id = call(client, "POST", "/v1/jobs", json=ECHO).json["id"]
    stream = client.get(f"/v1/jobs/{job_id}/events")
    route = {"endpoint": "/v1/jobs/{job_id}/events"}
    next(stream.iter_encoded())
    assert seen(kept).sum("inference_active_connections", **route) == 1
    assert seen(kept).sum("inference_requests_total", **route) == 0

    worker.serve("hello")
    stream.close()
    assert seen(kept).sum("inference_active_connections", **route) == 0
    assert seen(kept).sum("inference_requests_total", **route) == 1


def test_probes_and_pages_are_not_counted(kept: Kept, client: FlaskClient) -> None:
    for path in ("/", "/health", "/ready", "/docs", "/openapi.json", "/metrics"):
        call(client, "GET", path)
    assert seen(kept).sum("inference_requests_total") == 0


def test_a_thousand_random_paths_make_no_new_series(
    kept: Kept, app: Flask, client: FlaskClient
) -> None:
    before = {(s.name, *sorted(s.labels.items())) for s in seen(kept).samples}

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

    found = seen(kept)
    assert {(s.name, *sorted(s.labels.items())) for s in found.samples} == before
    assert found.sum("inference_requests_total") == 1000
    assert found.sum("inference_requests_total", endpoint="other") > 500
    assert len(before) <= SERIES_A_ROUTE * (len(routes(app)) + 1)


def test_refusals_by_the_rate_limiter_are_counted_by_route(
    kept: Kept, app: Flask, client: FlaskClient
) -> None:
    limits = of(app).limits
    object.__setattr__(of(app), "limits", Limits(Plan(rpm=1), limits.limiter))

    statuses = [call(client, "POST", "/v1/jobs", json=ECHO).status_code for _ in range(3)]

    assert statuses == [202, 429, 429]
    found = seen(kept)
    assert found.sum("rate_limit_hits_total") == 2
    assert found.sum("rate_limit_hits_total", method="POST", endpoint="/v1/jobs") == 2
    assert found.sum("rate_limit_local_decisions_total") == 0


def test_what_is_kept_until_the_next_tick_is_bounded(kept: Kept) -> None:
    for _ in range(MOST + 1):
        kept.metrics.request_began("POST", "/v1/jobs")
        kept.metrics.request_ended("POST", "/v1/jobs", 202, 0.01)

    # Without a tick of its own all but the last are written.
    written = scrape(kept.instruments.registry)
    assert MOST - 1 <= written.sum("inference_requests_total") <= MOST
    found = seen(kept)
    assert found.sum("inference_requests_total") == MOST + 1
    assert found.sum("inference_request_duration_ms_count") == MOST + 1
    assert found.sum("inference_active_connections") == 0
