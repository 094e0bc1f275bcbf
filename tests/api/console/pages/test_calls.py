"""Calls of the API by the session of the console."""

import json
from collections.abc import Callable

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from shared.store.api_keys import ApiKeys, Grant, Scope
from tests.api.conftest import PlayedWorker
from tests.api.console.conftest import Browser

PREFIX = "/console/api"
READS, WRITES = Scope.JOBS_READ, Scope.JOBS_WRITE


def send(browser: Browser, path: str, **headers: str) -> TestResponse:
    return browser.client.post(
        f"{PREFIX}{path}",
        data=json.dumps({"model": "echo", "prompt": "x"}),
        content_type="application/json",
        headers={"X-CSRF-Token": browser.csrf, **headers},
    )


def test_a_session_calls_the_api(browser: Browser, worker: PlayedWorker) -> None:
    made = send(browser, "/v1/jobs")

    assert made.status_code == 202
    job_id = made.json["id"]
    assert made.headers["Location"].endswith(f"/v1/jobs/{job_id}")
    assert (
        "RateLimit" in made.headers
        and "default-src 'none'" in made.headers["Content-Security-Policy"]
    )
    assert browser.get(f"{PREFIX}/v1/jobs/{job_id}").json["status"] == "queued"
    worker.serve("done")
    events = browser.get(f"{PREFIX}/v1/jobs/{job_id}/events").text
    assert "event: done" in events and "retry: 1000" in events
    query = browser.get(f"{PREFIX}/v1/jobs?status=succeeded&limit=1").json
    assert [job["id"] for job in query["data"]] == [job_id]
    gone = browser.client.delete(
        f"{PREFIX}/v1/jobs/{job_id}", headers={"X-CSRF-Token": browser.csrf}
    )
    assert gone.status_code == 204


def test_an_error_is_told_as_the_api_tells_it(browser: Browser) -> None:
    answer = browser.get(f"{PREFIX}/v1/jobs/job_{'0' * 32}")

    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"
    assert answer.json["code"] == "job_not_found"
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("token", ["", "x"])
def test_a_change_takes_the_token_of_the_session(browser: Browser, token: str) -> None:
    answer = send(browser, "/v1/jobs", **{"X-CSRF-Token": token})

    assert answer.status_code == 403
    assert answer.content_type == "application/problem+json"
    assert browser.get(f"{PREFIX}/v1/jobs").json["data"] == []


def test_a_change_comes_from_this_site(browser: Browser) -> None:
    assert send(browser, "/v1/jobs", **{"Sec-Fetch-Site": "same-site"}).status_code == 403
    assert send(browser, "/v1/jobs", Origin="http://evil.example").status_code == 403
    assert send(browser, "/v1/jobs", Origin="http://localhost").status_code == 202


def test_without_a_session_nothing_is_called(app: Flask, browser: Browser) -> None:
    stranger = Browser(app)

    answer = stranger.get(f"{PREFIX}/v1/jobs")

    assert answer.status_code == 401
    assert answer.json["code"] == "unauthorized"
    assert send(stranger, "/v1/jobs").status_code == 401
    # A session is for the console alone, and what says who has signed in is no header.
    assert browser.client.get("/v1/jobs").status_code == 401
    claims = {"truthgpt.signed_in": "default", "Truthgpt-Signed-In": "default"}
    assert stranger.client.get("/v1/jobs", headers=claims).status_code == 401


def test_a_token_in_a_header_does_not_take_the_place_of_the_session(
    signed_in_with: Callable[..., Browser], keys: ApiKeys
) -> None:
    _, other = keys.create(Grant("other", frozenset({READS, WRITES})))
    browser = signed_in_with(READS, WRITES)

    send(browser, "/v1/jobs", Authorization=f"Bearer {other}")

    assert len(browser.get(f"{PREFIX}/v1/jobs").json["data"]) == 1


def test_scopes_and_tenants_hold(signed_in_with: Callable[..., Browser], browser: Browser) -> None:
    mine = send(browser, "/v1/jobs").json["id"]
    reader = signed_in_with(READS)
    other = signed_in_with(READS, WRITES, tenant="other")

    refused = send(reader, "/v1/jobs")

    assert refused.status_code == 403 and "jobs:write" in refused.json["detail"]
    assert reader.get(f"{PREFIX}/v1/jobs/{mine}").status_code == 200
    assert other.get(f"{PREFIX}/v1/jobs/{mine}").status_code == 404


def test_a_revoked_key_calls_no_more(app: Flask, keys: ApiKeys) -> None:
    key, token = keys.create(Grant("default", frozenset({READS})))
    browser = Browser(app).sign_in(token)
    assert browser.get(f"{PREFIX}/v1/jobs").status_code == 200

    keys.revoke(key.id)

    assert browser.get(f"{PREFIX}/v1/jobs").status_code == 401


def test_the_console_is_no_call(browser: Browser) -> None:
    for path in ("/console", "/console/jobs", "/console/api/v1/jobs"):
        assert browser.get(f"{PREFIX}{path}").status_code == 404


def test_the_bar_is_that_of_the_session_or_of_nobody(app: Flask, browser: Browser) -> None:
    docs = {"HX-Current-URL": "http://localhost/docs"}
    mine = browser.get("/console/bar", part="bar", **docs).text
    nobody = Browser(app).get("/console/bar", part="bar", **docs).text

    assert (
        f'data-csrf="{browser.csrf}"' in mine
        and 'href="/docs" data-key="a" aria-current="page"' in mine
    )
    assert "data-csrf" not in nobody and 'href="/console/jobs"' not in nobody
    assert 'name="next" value="/docs"' in nobody
