"""The list of jobs and a job's page, over what the store keeps."""

import html
import json
import re
import shlex
import time
from collections.abc import Callable

from flask import Flask

from shared.domain.records import Finish, Requeue
from shared.domain.states import JobState
from shared.store.api_keys import Scope
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, PlayedWorker
from tests.api.console.conftest import Browser
from tests.conftest import eventually

HOSTILE = "</pre><script>alert(1)</script>\"'<img src=x onerror=alert(1)>&\u2028{{7*7}}"


def make(app: Flask, **fields: object) -> str:
    body = {"model": "echo", "prompt": "x", **fields}
    answer = app.test_client().post("/v1/jobs", json=body, headers=AUTH)
    assert answer.status_code in (200, 202), answer.text
    job_id: str = answer.json["id"]
    return job_id


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
    assert "not the id of a job" in browser.get("/console/jobs?id=job_1").text


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


def test_a_page_tells_all_of_a_job(app: Flask, browser: Browser, worker: PlayedWorker) -> None:
    job_id = make(app, params={"step_ms": 5}, metadata={"order": "17"})
    waiting = browser.get(f"/console/jobs/{job_id}").text
    assert 'data-events="/console/jobs/' in waiting and "/cancel" in waiting
    assert "curl http://localhost/v1/jobs" in waiting and "step_ms" in waiting

    worker.serve("Once", " upon")
    page = browser.get(f"/console/jobs/{job_id}").text

    assert "data-events" not in page and "/cancel" not in page
    assert "Once upon" in page and "order" in page and "New tokens" in page
    assert (
        browser.get(f"/console/jobs/{job_id}", part="job").text.lstrip().startswith('<div id="job"')
    )
    assert 'id="output"' in browser.get(f"/console/jobs/{job_id}", part="output").text


def test_the_commands_make_the_same_job(app: Flask, browser: Browser) -> None:
    said = 'it\'s "quoted" $HOME `id` \\ <b>\nline two'
    job_id = make(app, prompt=said)

    page = browser.get(f"/console/jobs/{job_id}", part="rest").text
    shown = re.findall(r'<pre id="as-(?:curl|python)"[^>]*>(.*?)</pre>', page, re.DOTALL)
    curl, python = map(html.unescape, shown)
    words = shlex.split(curl.replace("\\\n", " "))
    assert json.loads(words[words.index("-d") + 1]) == {"model": "echo", "prompt": said}
    assert words[1] == "http://localhost/v1/jobs"
    compile(python, "copied.py", "exec")
    assert f"prompt={said!r}" in python


def test_hostile_strings_are_text(app: Flask, browser: Browser, worker: PlayedWorker) -> None:
    key = "<b>\"'"
    job_id = make(app, prompt=HOSTILE, metadata={key: HOSTILE})
    pages = browser.get(f"/console/jobs/{job_id}").text
    claim = worker.take()
    error = {"code": "engine_error", "message": HOSTILE, "retryable": True}
    worker.end(claim, JobState.FAILED, error=error, output={"text": HOSTILE})
    pages += browser.get(f"/console/jobs/{job_id}").text
    pages += browser.get("/console/jobs").text
    pages += browser.get(f"/console/jobs?model={'%22%3E%3Cscript%3E'}&status=%3Cb%3E").text
    pages += browser.get("/console/jobs?id=%3Cscript%3Ealert(1)%3C/script%3E").text

    assert pages.count("alert(1)") >= 4
    assert not re.search(r"<script(?! src=)|<img src=x|<b>", pages)
    assert "{{7*7}}" in pages


def test_the_events_of_a_job_come_to_who_has_a_session(
    app: Flask, browser: Browser, worker: PlayedWorker
) -> None:
    job_id = make(app)
    worker.serve("a", "b")

    told = browser.get(f"/console/jobs/{job_id}/events").text
    rest = browser.get(f"/console/jobs/{job_id}/events?after=1-1").text

    assert re.findall(r"event: (\w+)", told) == ["status", "status", "token", "token", "done"]
    assert re.findall(r"event: (\w+)", rest) == ["token", "done"]
    assert (
        Browser(app).get(f"/console/jobs/{job_id}/events", Accept="text/event-stream").status_code
        == 401
    )


def test_a_job_is_canceled_from_its_page(app: Flask, browser: Browser) -> None:
    job_id = make(app)

    part = browser.post(f"/console/jobs/{job_id}/cancel", part="job").text

    assert 'class="chip canceled"' in part and part.lstrip().startswith('<div id="job"')
    assert browser.post(f"/console/jobs/{job_id}/cancel").headers["Location"].endswith(job_id)


def test_a_job_that_failed_is_tried_again_once(
    app: Flask, browser: Browser, worker: PlayedWorker, store: JobStore
) -> None:
    job_id = make(app, prompt="again")
    claim = worker.take()
    error = b'{"code":"engine_error","message":"x","retryable":true}'
    store.write([Finish(claim.id, claim.attempt, JobState.FAILED, error=error, dead=True)])
    page = browser.get(f"/console/jobs/{job_id}").text
    assert "/retry" in page and "again" in page

    answers = [browser.post(f"/console/jobs/{job_id}/retry", part="job") for _ in range(2)]

    targets = {answer.headers["HX-Redirect"] for answer in answers}
    assert len(targets) == 1
    again = browser.get(targets.pop()).text
    assert f'href="/console/jobs/{job_id}"' in again, "its metadata leads back"


def test_the_timeline_says_why_an_attempt_ended(
    app: Flask, browser: Browser, worker: PlayedWorker, signed_in_with: Callable[..., Browser]
) -> None:
    job_id = make(app)
    claim = worker.take()
    worker.store.write([Requeue(claim.id, claim.attempt, "worker_crashed", charge="crashes")])
    worker.serve("done")

    page = browser.get(f"/console/jobs/{job_id}").text

    assert "worker_crashed" in page and "1 lost to crashes" in page
    assert "played" in page, "the operator sees which worker"
    other = signed_in_with(Scope.JOBS_READ)
    assert "played" not in other.get(f"/console/jobs/{job_id}").text
