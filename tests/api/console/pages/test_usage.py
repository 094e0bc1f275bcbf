"""Usage: a tenant's jobs, tokens and times by day and model, of the last days, its own alone."""

from collections.abc import Callable

import msgspec
from flask.testing import FlaskClient

from shared.domain.records import Finish
from shared.domain.states import JobState
from shared.store.api_keys import Scope
from tests.api.conftest import PlayedWorker
from tests.api.console.conftest import Browser

USED = {"prompt_tokens": 1200, "completion_tokens": 345, "cached_tokens": 77, "device_seconds": 1.5}


def use(client: FlaskClient, worker: PlayedWorker, state: JobState) -> None:
    client.post("/v1/jobs", json={"model": "echo", "prompt": "x"})
    claim = worker.take()
    usage = msgspec.json.encode(USED)
    worker.store.write([Finish(claim.id, claim.attempt, state, usage=usage)])


def test_what_was_used_is_told_by_day_and_model(
    client: FlaskClient, worker: PlayedWorker, browser: Browser
) -> None:
    assert "No job has ended in these days" in browser.get("/console/usage").text
    for state in (JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.FAILED):
        use(client, worker, state)

    page = browser.get("/console/usage").text
    assert '<progress max="3" value="3"' in page and page.count("<progress") == 7
    assert "3\N{NARROW NO-BREAK SPACE}600" in page and "1\N{NARROW NO-BREAK SPACE}035" in page
    assert "1 failed" in page and "4.5" in page and ">echo<" in page
    assert browser.get("/console/usage?days=30").text.count("<progress") == 30
    assert browser.get("/console/usage?days=1000000").text.count("<progress") == 7


def test_others_are_for_the_server_s_administrator(
    client: FlaskClient,
    worker: PlayedWorker,
    browser: Browser,
    signed_in_with: Callable[..., Browser],
) -> None:
    use(client, worker, JobState.SUCCEEDED)
    acme = signed_in_with(Scope.JOBS_READ, tenant="acme")

    own = acme.get("/console/usage").text
    assert "No job has ended in these days" in own and 'id="tenant"' not in own
    assert acme.get("/console/usage?tenant=default").status_code == 403
    assert "of acme" in browser.get("/console/usage?tenant=acme").text
    assert browser.get("/console/usage?tenant=a%20b").status_code == 422
    assert signed_in_with(Scope.METRICS).get("/console/usage").status_code == 403
