"""Batches: made of a file, followed, cancelled; seen by their tenant alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from api.services import of
from shared.settings import Settings
from shared.store.api_keys import Scope
from shared.store.batches import ClaimedBatch, Step
from shared.store.jobs import JobStore
from tests.api.console.conftest import Browser
from tests.api.openai.test_batches import an_input

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"file_storage": str(tmp_path / "files")})


def make(app: Flask, browser: Browser) -> str:
    fields = {"input": an_input(app), "endpoint": "/v1/embeddings"}
    answer = browser.post("/console/batches", **fields)
    assert answer.status_code == 303, answer.text
    return answer.headers["Location"].rpartition("/")[2]


def advance(app: Flask, done: int = 0, bad: int = 0, closes: bool = False, **fields: Any) -> None:
    """Let the batch that is due take a step."""
    batches = of(app).batches
    claimed = batches.claim(60.0)
    assert isinstance(claimed, ClaimedBatch)
    step = Step(fields=fields, done=done, bad=bad, closes=closes)
    assert batches.commit(claimed, step, 0.0) == "done"


def test_a_batch_is_made_followed_and_ends(app: Flask, browser: Browser) -> None:
    assert "No batches yet" in browser.get("/console/batches").text
    batch_id = make(app, browser)

    advance(app, done=30, bad=10, status="in_progress", total=160, in_progress_at=1_900_000_000)
    row = browser.get("/console/batches", part="batch-rows").text
    assert batch_id in row and 'data-every="3"' in row
    assert '<progress max="160" value="40"' in row and "25.0 %" in row
    page = browser.get(f"/console/batches/{batch_id}", part="batch").text
    assert 'data-every="2"' in page and "in progress" in page

    output = "file-" + "7" * 32
    advance(app, done=120, closes=True, status="completed", output_file=output)
    ended = browser.get(f"/console/batches/{batch_id}").text
    assert "data-every" not in ended and "100 %" in ended
    assert f"/console/batches/files/{output}/content" in ended
    assert f"/console/batches/{batch_id}/cancel" not in ended


def test_what_is_wrong_with_an_input_is_shown_as_text(app: Flask, browser: Browser) -> None:
    batch_id = make(app, browser)
    errors = f'[{{"code":"invalid_request","message":"{HOSTILE}","param":"url","line":3}}]'
    advance(app, closes=True, status="failed", errors=errors, metadata=f'{{"{HOSTILE}":"x"}}')

    page = browser.get(f"/console/batches/{batch_id}").text
    assert "invalid_request" in page and "&lt;script&gt;" in page and HOSTILE not in page
    assert "No answers were written." in page


def test_a_batch_is_cancelled_once(app: Flask, browser: Browser) -> None:
    batch_id = make(app, browser)
    advance(app, status="in_progress", total=3)

    part = browser.post(f"/console/batches/{batch_id}/cancel", part="batch").text

    assert 'class="chip cancelling"' in part and f"/console/batches/{batch_id}/cancel" not in part
    advance(app, closes=True, status="completed")
    refused = browser.post(f"/console/batches/{batch_id}/cancel", part="batch")
    assert refused.status_code in (400, 409) and "cannot be cancelled" in refused.text


def test_that_nobody_works_on_batches_is_said(
    app: Flask, browser: Browser, store: JobStore
) -> None:
    batch_id = make(app, browser)
    for path in ("/console/batches", f"/console/batches/{batch_id}"):
        assert "No process works on batches now" in browser.get(path).text, path

    of(app).batches.claim(1.0)

    assert "No process works" not in browser.get("/console/batches").text


def test_what_is_no_batch_is_refused(app: Flask, browser: Browser) -> None:
    given = an_input(app)
    for fields, said in (
        ({"input": given, "endpoint": "/v1/x"}, "endpoint"),
        ({"input": "file-" + "0" * 32, "endpoint": "/v1/embeddings"}, "There is no file"),
    ):
        answer = browser.post("/console/batches", part="x", **fields)
        assert answer.status_code >= 400 and said in answer.text
        assert answer.headers["HX-Retarget"] == "#notice"


def test_others_see_none_of_it_and_readers_have_no_buttons(
    app: Flask, browser: Browser, signed_in_with: Callable[..., Browser]
) -> None:
    batch_id = make(app, browser)
    other = signed_in_with(Scope.JOBS_READ, Scope.JOBS_WRITE, tenant="other")
    reader = signed_in_with(Scope.JOBS_READ)

    assert batch_id not in other.get("/console/batches").text
    assert other.get(f"/console/batches/{batch_id}").status_code == 404
    assert other.post(f"/console/batches/{batch_id}/cancel").status_code == 404
    assert "<button" not in reader.get(f"/console/batches/{batch_id}", part="batch").text
    assert 'name="endpoint"' not in reader.get("/console/batches").text
    assert reader.post("/console/batches").status_code == 403


def test_pages_follow_one_another(
    app: Flask, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.console.pages.batches.PAGE", 2)
    made = sorted(make(app, browser) for _ in range(3))

    first = browser.get("/console/batches").text
    older = browser.get(f"/console/batches?after={made[1]}", part="batch-rows").text

    assert made[2] in first and f"after={made[1]}" in first and made[0] not in first
    assert made[0] in older and made[1] not in older and "data-every" not in older
