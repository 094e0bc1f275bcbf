"""Dead letters: listed, and tried again one or many."""

from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from api.app import create_app
from api.services import of
from shared.domain.records import Finish
from shared.domain.states import JobState
from shared.settings import Settings
from shared.store.api_keys import Scope
from shared.store.jobs import JobStore
from shared.webhooks.outbox import Outbox, Recorded
from tests.api.conftest import AUTH, PlayedWorker
from tests.api.console.conftest import Browser
from tests.shared.webhooks.test_outbox import completed


@pytest.fixture
def dead_letter(app: Flask, worker: PlayedWorker) -> Callable[[int], list[str]]:
    """So many jobs that failed for no fault of theirs."""

    def made(count: int) -> list[str]:
        found = []
        for _ in range(count):
            body = {"model": "echo", "prompt": "x"}
            found.append(app.test_client().post("/v1/jobs", json=body, headers=AUTH).json["id"])
            claim = worker.take()
            error = b'{"code":"worker_crashed","message":"x","retryable":true}'
            end = Finish(claim.id, claim.attempt, JobState.FAILED, error=error, dead=True)
            worker.store.write([end])
        return found

    return made


def test_what_is_ticked_is_tried_again_and_the_rest_stays(
    browser: Browser, dead_letter: Callable[[int], list[str]], store: JobStore
) -> None:
    first, second, third = dead_letter(3)
    page = browser.get("/console/dead-letters").text
    assert all(job_id in page for job_id in (first, second, third))

    ticked = {f"job:{first}": "on", f"job:{third}": "on"}
    part = browser.post("/console/dead-letters/retry", part="dead-letters", **ticked).text

    assert "2 jobs are tried again" in part
    assert [record.id for record in store.dead("default")] == [second]
    assert store.status("echo").waiting == 2


def test_what_cannot_be_tried_again_is_said_and_the_rest_goes_on(
    browser: Browser, dead_letter: Callable[[int], list[str]]
) -> None:
    (job_id,) = dead_letter(1)
    gone = "job_" + "f" * 32

    part = browser.post(
        "/console/dead-letters/retry", part="x", **{f"job:{gone}": "on", f"job:{job_id}": "on"}
    ).text

    assert "1 jobs are tried again" in part and f"There is no job &#39;{gone}&#39;" in part
    assert browser.post("/console/dead-letters/retry", part="x").status_code == 422


@pytest.fixture
def limited(settings: Settings, store: JobStore) -> Iterator[Flask]:
    given = settings.model_copy(update={"rate_rpm": 6})
    app = create_app(given, store=store, ring=lambda _: None)
    yield app
    of(app).close()


def test_each_that_is_tried_again_counts_as_one(
    limited: Flask, dead_letter: Callable[[int], list[str]], store: JobStore
) -> None:
    ticked = {f"job:{job_id}": "on" for job_id in dead_letter(4)}

    part = Browser(limited).sign_in().post("/console/dead-letters/retry", part="x", **ticked).text

    assert "2 jobs are tried again" in part and "The limit &#39;submit&#39; is 6" in part
    assert len(store.dead("default")) == 2


def test_who_may_only_read_sees_no_button(
    signed_in_with: Callable[..., Browser], dead_letter: Callable[[int], list[str]]
) -> None:
    (job_id,) = dead_letter(1)

    page = signed_in_with(Scope.JOBS_READ).get("/console/dead-letters").text

    assert job_id in page and "checkbox" not in page


def test_nothing_given_up_is_said(browser: Browser) -> None:
    page = browser.get("/console/dead-letters").text

    assert "No dead letters." in page and "No webhook was given up." in page


def test_webhooks_that_were_given_up_are_delivered_again(browser: Browser, store: JobStore) -> None:
    (job_id,) = completed(store, tenant="default")
    outbox = Outbox(store)
    (message,) = outbox.claim(1, 30.0)
    outbox.record(message, Recorded("dead", status=410, fault="status", well=True))
    assert "https://receiver.example/hook" in browser.get("/console/dead-letters").text
    gone = "job_" + "f" * 32

    part = browser.post(
        "/console/dead-letters/deliver", part="x", **{f"job:{job_id}": "on", f"job:{gone}": "on"}
    ).text

    assert "The webhooks of 1 jobs are delivered again" in part and gone in part
    assert "No webhook was given up." in part
    assert outbox.of_job(job_id, "default")[0].status == "pending"
    assert browser.post("/console/dead-letters/deliver", part="x").status_code == 422
