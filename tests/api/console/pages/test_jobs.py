"""The list of jobs and a job's page, over what the store keeps."""

import html
import re
import time
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from flask import Flask

from api.console.pages import jobs
from shared.store import search
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.api.conftest import PlayedWorker
from tests.api.console.conftest import Browser, make
from tests.conftest import eventually


def test_the_list_shows_newest_first_by_status_model_and_time(
    app: Flask, browser: Browser, worker: PlayedWorker
) -> None:
    done = make(app)
    worker.serve("a")
    eventually(lambda: time.time() * 1000 >= int(done[4:16], 16) + 1, what="a later millisecond")
    waits, other = make(app), make(app, model="full")

    page = browser.get("/console/jobs").text
    newest = sorted((done, waits, other), reverse=True)
    assert re.findall(r'id="to-(job_\w+)"', page) == newest, "ids sort by their time"
    assert done in browser.get("/console/jobs?status=succeeded").text
    assert waits not in browser.get("/console/jobs?status=succeeded").text
    full = browser.get("/console/jobs?model=full").text
    assert other in full and waits not in full
    before = int(waits[4:16], 16)
    assert done in browser.get(f"/console/jobs?before={before}").text
    assert waits not in browser.get(f"/console/jobs?before={before}").text
    assert browser.get("/console/jobs?before=yesterday").status_code == 422
    part = browser.get("/console/jobs", part="job-rows").text
    assert part.lstrip().startswith("<section") and waits in part


def test_the_id_of_a_job_leads_to_its_page(app: Flask, browser: Browser) -> None:
    job_id = make(app)

    answer = browser.get(f"/console/jobs?id= {job_id} ")

    assert answer.headers["Location"] == f"/console/jobs/{job_id}"
    assert job_id in browser.get(f"/console/jobs?id={job_id[9:20]}").text, "a part of it finds it"
    nothing = browser.get("/console/jobs?id=job_x").text
    assert "No job here fits" in nothing and "All 1 jobs were looked at" in nothing


def test_the_list_is_searched_by_metadata_and_time(app: Flask, browser: Browser) -> None:
    one = make(app, metadata={"team": "search", "note": "naïve & <b>"})
    two = make(app, metadata={"team": "ads"})

    def told(**query: str) -> set[str]:
        page = browser.get(f"/console/jobs?{urlencode(query)}").text
        return {job_id for job_id in (one, two) if f'id="to-{job_id}"' in page}

    assert told(metadata="team=search") == {one}
    assert told(metadata="team=") == told(metadata="s") == {one, two}
    assert told(metadata="naïve & <b>") == {one}
    assert told(metadata="team=search", status="succeeded") == set()
    assert told(after=str(int(one[4:16], 16))) == {one, two}
    assert told(after=str(int(two[4:16], 16) + 1)) == set()
    assert browser.get("/console/jobs?after=x").status_code == 422


def test_a_search_says_how_far_it_came_and_goes_on_by_itself(
    app: Flask, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(app, metadata={"rare": "yes"})
    for _ in range(5):
        make(app)
    monkeypatch.setattr(search, "PIECE", 4)
    monkeypatch.setattr(search, "MOST", 4)

    page = browser.get("/console/jobs?metadata=rare%3Dyes").text
    assert "Looked at 4 jobs, back to" in page and "data-every" not in page
    further = html.unescape(re.search(r'hx-get="([^"]+cursor[^"]+)"', page)[1])  # type: ignore[index]
    assert 'hx-trigger="load delay:100ms, click"' in page
    part = browser.get(further, part="job-more").text

    assert part.lstrip().startswith("<tbody>") and f'id="to-{first}"' in part
    assert "All 6 jobs were looked at" in part and "hx-get" not in part
    monkeypatch.setattr(jobs, "GOES_ON_UNTIL", 0)
    assert 'hx-trigger="click"' in browser.get("/console/jobs?metadata=rare%3Dyes").text


def test_the_operator_looks_at_the_jobs_of_any_tenant_and_nobody_else_does(
    app: Flask, browser: Browser, keys: ApiKeys, signed_in_with: Callable[..., Browser]
) -> None:
    _, token = keys.create(Grant("acme", frozenset({Scope.JOBS_WRITE})))
    answer = app.test_client().post(
        "/v1/jobs",
        json={"model": "echo", "prompt": "theirs"},
        headers={"Authorization": f"Bearer {token}"},
    )
    theirs, mine = answer.json["id"], make(app)
    reader = signed_in_with(Scope.JOBS_READ)

    page = browser.get("/console/jobs?tenant=acme").text
    assert f'id="to-{theirs}"' in page and f'id="to-{mine}"' not in page
    assert browser.get("/console/jobs?tenant=%2A").status_code == 422
    page = reader.get("/console/jobs?tenant=acme").text
    assert theirs not in page and f'id="to-{mine}"' in page and 'name="tenant"' not in page


def test_pages_of_the_list_follow_one_another(
    app: Flask, browser: Browser, store: JobStore
) -> None:
    made = [make(app) for _ in range(55)]

    first = browser.get("/console/jobs").text
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following is not None
    second = browser.get(following[1].replace("&amp;", "&")).text

    told = [re.findall(r'id="to-(job_\w+)"', page) for page in (first, second)]
    assert told[0] + told[1] == sorted(made, reverse=True), "ids sort by their time"
    assert 'data-every="3"' in first and "data-every" not in second
    filtered = browser.get("/console/jobs?status=queued").text
    assert 'data-every="10"' in filtered, "it may look at many jobs"
