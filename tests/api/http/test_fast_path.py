"""The short way and Flask's: one request, one answer, whichever it takes."""

import json
import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.http.fast_path import BUSY, FastPath
from api.openapi.document import TABLE
from tests.api.conftest import AUTH

ECHO = {"model": "echo", "prompt": "hello", "expires_in": 60}
_OWN = re.compile(
    r"job_[0-9a-z]+|req_[0-9a-f]+|\d{4}-\d\d-\d\dT[\d:.]+Z|ticket=[\w.-]+|;t=\d+|r=\d+|"
    r'(?<="queue_position":)\d+'
)
"""What differs between any two requests."""


def shape(response: TestResponse) -> Any:
    """All of an answer that two equal requests have in common."""
    headers = sorted(
        (name, _OWN.sub("*", value))
        for name, value in response.headers
        if name != "Content-Length" or not response.is_json
    )
    return response.status, headers, _OWN.sub("*", response.get_data(as_text=True))


def both_ways(app: Flask, **request: Any) -> tuple[Any, Any]:
    """The answers to the same request by the fast path and by Flask."""
    lane = app.fast_path  # type: ignore[attr-defined]
    app.test_client().open(**request)  # An Idempotency-Key makes all others a repeat of this one.
    short = shape(app.test_client().open(**request))
    app.fast_path = FastPath({}, lane._services)  # type: ignore[attr-defined]
    try:
        return short, shape(app.test_client().open(**request))
    finally:
        app.fast_path = lane  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "request_",
    [
        {"json": ECHO},
        {"json": ECHO, "headers": {"Idempotency-Key": "k"}},
        {"json": {**ECHO, "model": "nobody"}},
        {"json": {**ECHO, "priority": 7}},
        {"json": ECHO, "headers": {"Authorization": "Bearer wrong"}},
        {"json": ECHO, "query_string": "timeout=0.01"},
        {"json": ECHO, "query_string": "nothing=1"},
        {"data": b"{", "content_type": "application/json"},
        {"data": b"a=b", "content_type": "application/x-www-form-urlencoded"},
        {"data": b"x" * 70_000, "content_type": "application/json"},
        {},
    ],
    ids=lambda request: json.dumps(request, default=lambda data: str(data[:9]))[:60],
)
@pytest.mark.parametrize("path", ["/v1/infer", "/v1/jobs"])
def test_a_request_is_answered_alike_on_both_ways(
    app: Flask, path: str, request_: dict[str, Any]
) -> None:
    headers = {**AUTH, "Prefer": "wait=0", **request_.get("headers", {})}
    query = {"query_string": "timeout=0"} if path == "/v1/infer" else {}
    options = {**query, **request_, "headers": headers, "path": path, "method": "POST"}

    short, long = both_ways(app, **options)

    assert short[:2] == long[:2]
    assert short[2] == long[2]


@pytest.mark.parametrize(
    "request_",
    [
        {"json": {"model": "nobody"}},
        {"json": {"model": "llama", "input": [], "messages": 1}},
        {"json": {"model": "llama"}, "headers": {"Authorization": "Bearer wrong"}},
        {"json": {"model": "llama"}, "query_string": "nothing=1"},
        {"data": b"{", "content_type": "application/json"},
    ],
    ids=["model", "body", "token", "query", "json"],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"])
def test_refusals_are_told_in_the_dialect_on_both_ways(
    app: Flask, path: str, request_: dict[str, Any]
) -> None:
    headers = {**AUTH, **request_.get("headers", {})}

    short, long = both_ways(app, **{**request_, "headers": headers, "path": path, "method": "POST"})

    assert short == long
    assert json.loads(short[2])["error"]["message"]


def test_an_exception_is_answered_alike(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("api.intake.submission.submission_of", broken)

    short, long = both_ways(app, path="/v1/jobs", method="POST", json=ECHO, headers=AUTH)

    assert short == long
    assert short[0].startswith("500")
    assert "POST /v1/jobs broke" in caplog.text


def test_only_busy_routes_are_short(app: Flask) -> None:
    routes = {operation.endpoint for operation in app.extensions[TABLE]}
    stop = app.fast_path.route  # type: ignore[attr-defined]

    def goes(method: str, path: str, **more: str) -> bool:
        asked = {"REQUEST_METHOD": method, "PATH_INFO": path, "RAW_URI": path, "HTTP_HOST": "x"}
        return stop({**asked, "SERVER_PROTOCOL": "HTTP/1.1", **more}) is not None

    assert set(BUSY) <= routes
    for route in routes:
        method, _, path = route.partition(" ")
        assert goes(method, path) == (route in BUSY), route
    assert not goes("OPTIONS", "/v1/jobs")
    assert not goes("POST", "//v1/jobs")
    assert not goes("POST", "/v1/jobs", HTTP_ORIGIN="https://elsewhere.example")
    assert not goes("POST", "/v1/jobs", RAW_URI="/v1/%6Aobs")
    assert not goes("POST", "/v1/jobs", HTTP_HOST="a,b")


def test_pages_of_other_origins_are_answered_as_configured(client: FlaskClient) -> None:
    told = client.post("/v1/jobs", json=ECHO, headers={"Origin": "https://elsewhere.example"})

    assert told.status_code == 202
    assert "Access-Control-Allow-Origin" not in told.headers
