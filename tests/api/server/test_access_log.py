"""Which requests are worth a line: those of clients; of probes only when somebody looks closer."""

import logging
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from api.server.access_log import Logger
from shared import context


def logged(app: Flask, path: str, caplog: pytest.LogCaptureFixture) -> list[Any]:
    """The access lines of one request, as gunicorn has them written before its connection is closed."""
    context.begin()
    with caplog.at_level(logging.DEBUG, "truthgpt.access"):
        response = app.test_client().get(path, buffered=False)
        Logger.access(
            object.__new__(Logger),
            SimpleNamespace(status=response.status, sent=1),
            None,
            {"REQUEST_METHOD": "GET"},
            timedelta(milliseconds=3),
        )
        response.close()
    return [record for record in caplog.records if record.name == "truthgpt.access"]


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/metrics", "/docs", "/openapi.json"])
def test_probes_and_scrapers_are_lines_at_debug(
    app: Flask, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    [line] = logged(app, path, caplog)
    assert line.levelno == logging.DEBUG


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models", "/nothing"])
def test_what_clients_ask_is_a_line_at_info(
    app: Flask, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    [line] = logged(app, path, caplog)
    assert line.levelno == logging.INFO
    assert line.__dict__["duration_ms"] == 3.0
