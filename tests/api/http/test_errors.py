import logging
import re
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.exceptions import ImATeapot

from shared.domain.advice import ADVICE
from shared.domain.errors import PROBLEMS, JobsError, ModelUnavailable
from tests.api.conftest import ROOT

TABLE = ROOT / "docs" / "errors.md"
SOURCES = [
    path
    for package in ("api", "shared", "workers")
    for kind in ("*.py", "*.lua")
    for path in (ROOT / package).rglob(kind)
]
MENTIONS = re.compile(r"""\bcode["']?\s*[=:]\s*\\?["']([a-z][a-z_]*)["']""")


def rows() -> dict[str, list[str]]:
    """The rows of the table in the docs by their code."""
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_the_docs_hold_every_code_with_its_status_and_title() -> None:
    documented = rows()

    assert list(documented) == list(PROBLEMS), "the order of the source"
    for code, problem in PROBLEMS.items():
        status, title, retryable, advice = documented[code]
        assert (int(status), title) == (problem.status, problem.title)
        assert retryable == ("yes" if problem.retryable else "no")
        assert advice == ADVICE[code] and len(advice) > 20
    assert set(ADVICE) == set(PROBLEMS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_code_in_the_source_stands_in_the_table(path: Path) -> None:
    assert set(MENTIONS.findall(path.read_text())) <= set(PROBLEMS)


def test_the_search_for_codes_finds_them() -> None:
    found = {code for path in SOURCES for code in MENTIONS.findall(path.read_text())}

    assert {"invalid_cursor", "unauthorized", "job_expired", "worker_crashed"} <= found


@pytest.fixture
def broken(app: Flask) -> Flask:
    """The app with routes that break."""

    def crash() -> str:
        raise RuntimeError("secret /etc/passwd")

    def unavailable() -> str:
        raise ModelUnavailable("No worker.")

    def teapot() -> str:
        raise ImATeapot

    def unnamed() -> str:
        raise JobsError("Something.")

    for view in (crash, unavailable, teapot, unnamed):
        app.add_url_rule(f"/{view.__name__}", view_func=view)
    return app


def test_the_unexpected_is_logged_and_hidden(
    broken: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        response = broken.test_client().get("/crash", headers={"X-Request-ID": "find-me"})

    assert response.status_code == 500
    assert response.json["code"] == "internal_error"
    assert response.json["request_id"] == "find-me"
    assert "secret" not in response.text and "Traceback" not in response.text
    assert "find-me" in caplog.text and "secret /etc/passwd" in caplog.text


def test_retryable_answers_say_when(broken: Flask) -> None:
    response = broken.test_client().get("/unavailable")

    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0


def test_a_status_without_a_code_of_its_own_is_a_bad_request(broken: Flask) -> None:
    response = broken.test_client().get("/teapot")

    assert (response.status_code, response.json["status"]) == (418, 418)
    assert response.json["code"] == "bad_request"


def test_an_error_without_a_code_is_an_internal_one(broken: Flask) -> None:
    assert broken.test_client().get("/unnamed").status_code == 500
