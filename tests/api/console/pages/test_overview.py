"""The overview, over what `GET /v1/stats` says."""

from collections.abc import Callable

import pytest
from flask import Flask

from api.app import create_app
from api.console.pages import overview
from api.services import of
from shared.settings import Settings
from shared.store.api_keys import Scope
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, PlayedWorker
from tests.api.console.conftest import Browser
from tests.ports import free_port


def test_the_overview_says_what_the_statistics_say(
    app: Flask, browser: Browser, worker: PlayedWorker
) -> None:
    client = app.test_client()
    for _ in range(3):
        client.post("/v1/jobs", json={"model": "echo", "prompt": "x"}, headers=AUTH)
    worker.serve("a")
    worker.fail("engine_error")
    told = client.get("/v1/stats", headers=AUTH).json

    page = browser.get("/console").text

    assert "2 ended" in page and 'data-every="5"' in page
    (row,) = (row for row in told["models"] if row["model"] == "echo")
    assert row["queue_depth"] == 1
    assert "<dt>Waiting</dt><dd>1<small>" in page
    assert "<dt>Failed</dt><dd>1<small>" in page
    assert browser.get("/console", part="overview").text.lstrip().startswith('<div id="overview"')


def test_a_breaker_that_is_open_is_said_on_top(browser: Browser, store: JobStore) -> None:
    assert "breaker is not closed" not in browser.get("/console").text
    store.redis.hset(
        store.keys("breaker", "echo"),
        mapping={"state": "open", "until": "99999999999999", "since": "1"},
    )
    store.redis.expire(store.keys("breaker", "echo"), 60)

    page = browser.get("/console").text

    assert "The circuit breaker is not closed: echo" in page
    assert 'class="chip open"' in page


def test_the_charts_get_the_minutes_that_are_over(
    browser: Browser, store: JobStore, signed_in_with: Callable[..., Browser]
) -> None:
    present = store.redis.time()[0] // 60  # type: ignore[index]
    name = store.keys("stats", "echo", str(present - 10))
    store.redis.hset(name, mapping={"n:succeeded": 30, "n:failed": 30, "tokens": 600, "l50": 60})
    store.redis.expire(name, 60)

    told = browser.get("/console/history").json

    assert {len(column) for column in told.values()} == {60}
    at = told["at"].index((present - 10) * 60)
    row = {column: values[at] for column, values in told.items()}
    assert (row["ended"], row["failed"], row["tokens"]) == (1.0, 0.5, 10.0)
    assert row["p50"] == row["p95"] > 100 and row["wait"] is None
    assert signed_in_with(Scope.JOBS_WRITE).get("/console/history").status_code == 403


def test_a_longer_history_comes_from_prometheus_and_its_absence_is_said(
    settings: Settings, store: JobStore, rings: Callable[[str], None]
) -> None:
    with_one = settings.model_copy(update={"prometheus_url": f"http://127.0.0.1:{free_port()}"})
    app = create_app(with_one, store=store, ring=rings)
    browser = Browser(app).sign_in()

    page = browser.get("/console?hours=24").text
    away = browser.get("/console/history?hours=24").json
    own = browser.get("/console/history").json

    assert 'data-history="/console/history?hours=24"' in page and "The last 24 hours" in page
    assert 'href="/console?hours=168"' in page
    assert away == {"away": "Prometheus does not answer."}
    assert len(own["at"]) == 60 and "away" not in own
    assert 'data-history="/console/history"' in browser.get("/console?hours=5000").text
    of(app).close()


def test_without_prometheus_there_is_the_last_hour(browser: Browser) -> None:
    assert "hours=" not in browser.get("/console").text
    assert len(browser.get("/console/history?hours=24").json["at"]) == 60


def test_pages_that_are_open_share_a_look_within_their_tenant(
    app: Flask,
    browser: Browser,
    signed_in_with: Callable[..., Browser],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = browser.get("/console", part="overview").text
    app.test_client().post("/v1/jobs", json={"model": "echo", "prompt": "x"}, headers=AUTH)
    monkeypatch.setattr(overview, "SHARED", 3600.0)

    again = browser.get("/console", part="overview").text
    other = signed_in_with(Scope.JOBS_READ, tenant="other").get("/console", part="overview").text

    assert again == first != other
    assert browser.get("/console").text != first, "a page that is opened looks itself"
