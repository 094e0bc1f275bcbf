"""What every page of the console has in common: who gets in, what it sends, what it refuses."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask

from api.app import create_app
from api.console.guard import NAME
from api.console.install import PAGES
from api.services import of
from shared.hooks import Hooks
from shared.settings import Settings, load_settings
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.api.conftest import TOKEN, PlayedWorker
from tests.api.console.conftest import Browser

UNKNOWN = "job_" + "0" * 32
READS, WRITES = Scope.JOBS_READ, Scope.JOBS_WRITE


def paths(app: Flask, method: str) -> list[str]:
    """All of the console's, with a job that there is not."""
    found = [
        re.sub(r"<job_id>", UNKNOWN, rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith(f"{NAME}.") and method in (rule.methods or ())
    ]
    plain = [re.sub(r"<(model|key_id|batch_id|file_id)>", "echo", path) for path in found]
    return [path for path in plain if "<" not in path]


def open_paths() -> set[str]:
    return {
        "/console/sign-in",
        "/console/sign-in/ticket",
        "/console/preferences",
        "/console/bar",
    }


def test_every_page_is_sent_with_a_strict_policy_and_needs_no_exception_from_it(
    app: Flask, browser: Browser, store: JobStore
) -> None:
    made = app.test_client().post(
        "/v1/jobs",
        json={"model": "echo", "prompt": "x"},
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    seen = 0
    for path in [*paths(app, "GET"), "/console/nowhere"]:
        page = browser.get(path.replace(UNKNOWN, made.json["id"]))
        page.close()
        if page.mimetype != "text/html":
            continue
        seen += 1
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy, path
        assert "frame-ancestors 'none'" in policy and "form-action 'self'" in policy, path
        assert page.headers["Cache-Control"] == "no-store", path
        assert page.headers["Referrer-Policy"] == "same-origin", path
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=|javascript:", page.text), (
            path
        )
        assert not re.search(r"""(src|href)=["'](https?:)?//""", page.text), path
    assert seen >= 5


def test_without_a_session_every_page_leads_to_the_sign_in_and_back(
    app: Flask, browser: Browser
) -> None:
    stranger = Browser(app)
    for path in set(paths(app, "GET")) - open_paths():
        answer = stranger.get(path)
        assert answer.status_code == 303, path
        assert answer.headers["Location"] == f"/console/sign-in?next={path}"
        part = stranger.get(path, part="x", **{"HX-Current-URL": "http://localhost/console/jobs"})
        assert part.status_code == 401
        assert part.headers["HX-Redirect"] == "/console/sign-in?next=/console/jobs"
    for path in set(paths(app, "POST")) - open_paths():
        assert stranger.post(path).status_code == 401, path


def test_a_change_takes_the_token_of_this_very_session(app: Flask, browser: Browser) -> None:
    other = Browser(app).sign_in()
    changes = set(paths(app, "POST")) - open_paths()
    assert len(changes) >= 4
    for path in changes:
        for wrong in ("", "x", other.csrf):
            answer = browser.client.post(path, data={"csrf": wrong})
            assert answer.status_code == 403, path
    assert browser.get("/console/nowhere").status_code == 404, "still signed in"


@pytest.mark.parametrize(
    ("headers", "genuine"),
    [
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({}, True),
    ],
)
def test_a_form_of_another_site_changes_nothing(
    app: Flask, browser: Browser, headers: dict[str, str], genuine: bool
) -> None:
    signed = Browser(app).client.post("/console/sign-in", data={"token": TOKEN}, headers=headers)
    out = browser.client.post("/console/sign-out", data={"csrf": browser.csrf}, headers=headers)

    assert signed.status_code == out.status_code == (303 if genuine else 403)


def test_a_link_from_another_site_finds_the_session_by_asking_again(app: Flask) -> None:
    page = Browser(app).get("/console/jobs", **{"Sec-Fetch-Site": "cross-site"})

    assert page.status_code == 200
    assert '<meta http-equiv="refresh" content="0">' in page.text
    again = Browser(app).get("/console/jobs", **{"Sec-Fetch-Site": "same-origin"})
    assert again.status_code == 303


def test_a_key_sees_what_it_may_do_and_is_refused_the_rest(
    app: Flask, signed_in_with: Callable[..., Browser]
) -> None:
    reader, writer = signed_in_with(READS), signed_in_with(WRITES)
    nobody = signed_in_with(Scope.METRICS)

    jobs = reader.get("/console/jobs").text
    assert 'href="/console/jobs"' in jobs and 'href="/console/playground"' not in jobs
    assert reader.get("/console/playground").status_code == 403
    refused = reader.post("/console/playground", model="echo", prompt="x")
    assert refused.status_code == 403 and "jobs:write" in refused.text
    assert writer.get("/console/playground").status_code == 200
    assert writer.get("/console/jobs").status_code == 403
    assert nobody.get("/console/jobs").status_code == 403
    assert nobody.post("/console/sign-out").status_code == 303, "whoever is in gets out"


def test_a_revoked_key_ends_its_sessions_at_once(app: Flask, keys: ApiKeys) -> None:
    key, token = keys.create(Grant("default", frozenset({READS})))
    browser = Browser(app).sign_in(token)
    assert browser.get("/console/jobs").status_code == 200

    keys.revoke(key.id)

    assert browser.get("/console/jobs").status_code == 303
    assert browser.get("/console/jobs", part="job-rows").status_code == 401


def test_a_key_that_was_made_under_another_secret_opens_nothing(
    app: Flask, keys: ApiKeys, store: JobStore
) -> None:
    key, token = keys.create(Grant("default", frozenset({READS})))
    browser = Browser(app).sign_in(token)

    store.redis.hset(store.keys("api-key", key.id), "maker", "0000aaaa")

    assert browser.get("/console/jobs").status_code == 303


@pytest.fixture
def limited(settings: Settings, store: JobStore, rings: Callable[[str], None]) -> Iterator[Flask]:
    app = create_app(settings.model_copy(update={"rate_rpm": 3}), store=store, ring=rings)
    yield app
    of(app).close()


def test_guesses_are_limited_by_address_and_a_key_goes_on(limited: Flask) -> None:
    guesser = Browser(limited)
    statuses = [
        guesser.client.post("/console/sign-in", data={"token": f"guess{n}"}).status_code
        for n in range(5)
    ]

    assert statuses == [401, 401, 401, 429, 429]
    assert Browser(limited).sign_in().get("/console/jobs").status_code == 200
    guesser.client.set_cookie("truthgpt_console", f"default.1.{'x' * 43}", path="/console")
    assert guesser.get("/console/jobs").status_code == 429, "guessed cookies count as well"


def test_a_submission_counts_as_one_of_the_api(limited: Flask) -> None:
    browser = Browser(limited).sign_in()

    made = [
        browser.post("/console/playground", part="run", model="echo", prompt="x").status_code
        for _ in range(4)
    ]

    assert made == [200, 200, 200, 429]
    native = limited.test_client().post(
        "/v1/jobs",
        json={"model": "echo", "prompt": "x"},
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    assert native.status_code == 429


def test_a_refused_submission_is_charged_too(limited: Flask) -> None:
    browser = Browser(limited).sign_in()

    statuses = [
        browser.post("/console/playground", part="run", model="absent", prompt="x").status_code
        for _ in range(4)
    ]

    assert statuses == [404, 404, 404, 429]


def test_while_redis_is_away_pages_say_so_and_try_again(catalogue: Path) -> None:
    away = load_settings(
        TRUTHGPT_API_TOKEN=TOKEN, TRUTHGPT_CONFIG=catalogue, REDIS_URL="redis://127.0.0.1:1/0"
    )
    app = create_app(away)
    browser = Browser(app)
    browser.client.set_cookie("truthgpt_console", f"default.9999999999.{'x' * 43}", path="/console")

    page = browser.get("/console/jobs")
    part = browser.get("/console/jobs", part="job-rows")

    assert page.status_code == part.status_code == 503
    assert '<meta http-equiv="refresh"' in page.text
    assert part.headers["HX-Retarget"] == "#notice" and 'class="away"' in part.text
    of(app).close()


def test_people_s_pages_are_no_client_s_requests(app: Flask, browser: Browser) -> None:
    began: list[str] = []

    class Sees(Hooks):
        def request_began(self, method: str, endpoint: str) -> None:
            began.append(endpoint)

    of(app).observers.add(Sees())
    browser.get("/console/jobs")
    app.test_client().get("/v1/jobs")

    assert began == ["/v1/jobs"]


def test_the_pages_of_the_console_are_all_there(app: Flask) -> None:
    modules = {page.__name__.rpartition(".")[2] for page in PAGES}
    folder = Path(PAGES[0].__file__ or "").parent

    assert modules == {file.stem for file in folder.glob("*.py")} - {"__init__"}


def test_what_another_tenant_s_session_asks_for_does_not_exist(
    app: Flask, browser: Browser, signed_in_with: Callable[..., Browser], worker: PlayedWorker
) -> None:
    run = browser.post("/console/playground", model="echo", prompt="mine")
    job_id = run.headers["Location"].rpartition("/")[2]
    other = signed_in_with(READS, WRITES, tenant="other")

    for path in paths(app, "GET"):
        if UNKNOWN in path:
            assert other.get(path.replace(UNKNOWN, job_id)).status_code == 404, path
    for path in paths(app, "POST"):
        if UNKNOWN in path:
            assert other.post(path.replace(UNKNOWN, job_id)).status_code == 404, path
    assert job_id not in other.get("/console/jobs").text
    assert job_id in browser.get("/console/jobs").text


def test_limits_hold_for_a_key_s_own_rate(app: Flask, keys: ApiKeys) -> None:
    grant = replace(Grant("default", frozenset({READS, WRITES})), rpm=1)
    _, token = keys.create(grant)
    browser = Browser(app).sign_in(token)

    made = [
        browser.post("/console/playground", part="run", model="echo", prompt="x").status_code
        for _ in range(2)
    ]

    assert made == [200, 429]
