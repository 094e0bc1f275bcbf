"""Requests of tests, and what a problem document must be."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.http import request_context
from api.http.request_context import RequestContext
from api.services import of
from shared.domain.errors import PROBLEMS
from tests.api.conftest import ROOT

ECHO = {"model": "echo", "prompt": "hello"}
JSON = "application/json"


@contextmanager
def reading(app: Flask, **request: Any) -> Iterator[RequestContext]:
    """While a request is being handled, as far as it is read."""
    with app.test_request_context(**request) as flask:
        yield request_context.begin(of(app), flask.request.environ)


def post(client: FlaskClient, body: Any, **kw: Any) -> TestResponse:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return client.post("/v1/jobs", data=data, content_type=kw.pop("content_type", JSON), **kw)


def assert_problem(response: TestResponse, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = json.loads(response.data)
    assert problem["code"] == code, problem
    assert response.status_code == problem["status"] == PROBLEMS[code].status
    assert response.content_type == "application/problem+json"
    assert problem["type"] == f"/problems/{code.replace('_', '-')}"
    assert problem["title"] == PROBLEMS[code].title
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert len(problem["detail"]) > 15
    assert "Traceback" not in response.text and str(ROOT) not in response.text
    return problem
