"""A job's page: what it tells of a job, and what is done from it."""

import html
import json
import re
import shlex
from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from api.app import create_app
from api.services import of
from shared.domain.records import Finish, Requeue
from shared.domain.states import JobState
from shared.settings import Settings
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, PlayedWorker
from tests.api.console.conftest import Browser, make

HOSTILE = "</pre><script>alert(1)</script>\"'<img src=x onerror=alert(1)>&\u2028{{7*7}}"


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


def test_the_timeline_says_when_each_attempt_began_and_ended(
    app: Flask, browser: Browser, worker: PlayedWorker, store: JobStore
) -> None:
    job_id = make(app)
    for reason in ("drained", "engine_error"):
        claim = worker.take()
        store.write([Requeue(claim.id, claim.attempt, reason)])
    waiting = browser.get(f"/console/jobs/{job_id}", part="job").text
    worker.serve("done")

    ended = browser.get(f"/console/jobs/{job_id}", part="job").text

    def kinds(page: str) -> list[str]:
        return re.findall(r'<li class="(\w*)">', page)

    tried = ["running", "failed"]
    assert kinds(waiting) == ["", *tried, *tried]
    assert kinds(ended) == ["", *tried, *tried, "running", "succeeded"]
    assert ended.count("<time") == 1 + 2 + 2 + 2, "each step has its time"
    assert ended.index("drained") < ended.index("engine_error")


def test_of_very_many_attempts_the_newest_are_told(
    app: Flask, worker: PlayedWorker, store: JobStore
) -> None:
    job_id = make(app)
    for _ in range(13):
        claim = worker.take()
        store.write([Requeue(claim.id, claim.attempt, "drained")])

    told = app.test_client().get(f"/v1/jobs/{job_id}", headers=AUTH).json["earlier_attempts"]
    past = store.get(job_id).past
    assert [(one["attempt"], one["reason"]) for one in told] == [
        (n, "drained") for n in range(4, 14)
    ]

    assert [one.attempt for one in past] == list(range(4, 14))
    assert all(one.began <= one.ended and one.worker == "played" for one in past)


def test_a_job_of_before_tells_its_attempts_without_times(
    app: Flask, browser: Browser, worker: PlayedWorker, store: JobStore
) -> None:
    job_id = make(app)
    claim = worker.take()
    store.write([Requeue(claim.id, claim.attempt, "engine_error")])
    worker.serve("done")
    store.redis.hdel(store.keys("job", job_id), "past", "claimed")

    page = browser.get(f"/console/jobs/{job_id}", part="job").text

    assert re.findall(r'<li class="(\w*)">', page) == ["", "failed", "running", "succeeded"]


def test_the_operator_sees_how_another_tenant_s_job_went_and_not_what_it_said(
    app: Flask,
    browser: Browser,
    keys: ApiKeys,
    worker: PlayedWorker,
    keeping: Flask,
) -> None:
    _, token = keys.create(Grant("acme", frozenset({Scope.JOBS_WRITE})))
    job_id = make(app, token, prompt="their question")
    pages = browser.get(f"/console/jobs/{job_id}").text
    refused = browser.get(f"/console/jobs/{job_id}/events")
    worker.serve("their answer")
    pages += browser.get(f"/console/jobs/{job_id}").text

    assert "acme" in pages and 'class="chip succeeded"' in pages
    assert "their question" not in pages and "their answer" not in pages
    assert "data-events" not in pages and refused.status_code == 403
    for change in ("cancel", "retry", "replay", "deliveries/replay"):
        assert f"/{change}" not in pages
        assert browser.post(f"/console/jobs/{job_id}/{change}").status_code == 404

    shown = Browser(keeping).sign_in().get(f"/console/jobs/{job_id}").text
    assert "their answer" in shown and "/replay" not in shown


@pytest.fixture
def keeping(settings: Settings, store: JobStore, rings: Callable[[str], None]) -> Iterator[Flask]:
    """An app with settings of which others have none: jobs keep what was asked, traces have a viewer."""
    more = {
        "console_shows_tenants": True,
        "keep_requests": True,
        "trace_url": "https://traces.example/t/{trace_id}?x=1",
    }
    app = create_app(settings.model_copy(update=more), store=store, ring=rings)
    yield app
    of(app).close()


def test_a_job_whose_request_is_kept_is_replayed(
    keeping: Flask, worker: PlayedWorker, store: JobStore
) -> None:
    browser = Browser(keeping).sign_in()
    job_id = make(keeping, prompt="again", params={"step_ms": 3})
    held = store.held_bytes("default")
    worker.serve("done")
    assert 0 < store.redis.ttl(store.keys("request", job_id)) <= store.retention
    assert store.held_bytes("default") > 0 < held

    page = browser.get(f"/console/jobs/{job_id}").text
    assert f'action="/console/jobs/{job_id}/replay"' in page and "again" in page
    answer = browser.post(f"/console/jobs/{job_id}/replay", part="job")
    again = answer.headers["HX-Redirect"].rpartition("/")[2]

    assert again != job_id
    asked = [json.loads(store.request(one) or b"{}") for one in (job_id, again)]
    assert asked[0]["content"] == asked[1]["content"] == "again"
    assert asked[0]["params"] == asked[1]["params"]
    store.delete(job_id, "default")
    assert store.request(job_id) is None
    gone = browser.post(f"/console/jobs/{job_id}/replay", part="job")
    assert gone.status_code == 404


def test_what_is_not_kept_is_not_replayed(
    app: Flask, browser: Browser, worker: PlayedWorker
) -> None:
    job_id = make(app)
    worker.serve("done")

    assert "/replay" not in browser.get(f"/console/jobs/{job_id}").text
    answer = browser.post(f"/console/jobs/{job_id}/replay")
    assert answer.status_code == 409 and "no longer kept" in answer.text


def test_a_trace_has_a_link_to_its_viewer(app: Flask, keeping: Flask) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    job_id = make(keeping, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})

    page = Browser(keeping).sign_in().get(f"/console/jobs/{job_id}").text

    assert f'href="https://traces.example/t/{trace}?x=1"' in page
    plain = Browser(app).sign_in().get(f"/console/jobs/{job_id}").text
    assert trace in plain and "traces.example" not in plain
