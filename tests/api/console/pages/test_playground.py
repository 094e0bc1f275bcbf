"""The playground: its forms, and the jobs that they make."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from flask import Flask

from api.console.pages.playground import body_of
from shared.domain.models.catalog import ModelSpec
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, PlayedWorker, Rings
from tests.api.console.conftest import Browser


@pytest.mark.parametrize(
    ("engine", "form", "body"),
    [
        ("echo", {"prompt": " as it is\n"}, {"prompt": " as it is\n"}),
        (
            "text-generation",
            {
                "prompt": "p",
                "max_new_tokens": "5",
                "temperature": "0.5",
                "seed": "",
                "top_p": " 1 ",
            },
            {"prompt": "p", "params": {"max_new_tokens": 5, "temperature": 0.5, "top_p": 1.0}},
        ),
        (
            "text-generation",
            {"as": "chat", "system": "be brief", "prompt": "hi"},
            {
                "input": {
                    "messages": [
                        {"role": "system", "content": "be brief"},
                        {"role": "user", "content": "hi"},
                    ]
                }
            },
        ),
        ("embedding", {"prompt": "one\n\ntwo"}, {"input": ["one", "two"]}),
        (
            "ranking",
            {"query": "q", "prompt": "a\nb"},
            {"input": {"query": "q", "documents": ["a", "b"]}},
        ),
        ("somebody.engine:Model", {"prompt": '{"a": [1]}'}, {"input": {"a": [1]}}),
    ],
)
def test_a_form_stands_for_the_body_of_a_job(
    engine: str, form: dict[str, str], body: Mapping[str, Any]
) -> None:
    assert body_of(ModelSpec(name="m", engine=engine), form) == {"model": "m", **body}


def test_a_run_is_the_job_that_the_api_would_have_made(
    app: Flask, browser: Browser, store: JobStore, rings: Rings
) -> None:
    body = {"model": "echo", "prompt": "hello\nthere"}
    native = app.test_client().post("/v1/jobs", json=body, headers=AUTH).json["id"]

    answer = browser.post("/console/playground", model="echo", prompt="hello\r\nthere")

    ours = answer.headers["Location"].rpartition("/")[2]
    own = {"id", "created", "deadline", "seq", "request_id"}
    one, other = (
        {name: value for name, value in store.get(job_id).fields.items() if name not in own}
        for job_id in (native, ours)
    )
    assert one == other and rings.models == ["echo"]
    contents = [msgspec.json.decode(store.request(job_id) or b"") for job_id in (native, ours)]
    assert contents[0]["content"] == contents[1]["content"] == "hello\nthere"


def test_a_run_shows_its_events_and_then_how_it_went(
    browser: Browser, worker: PlayedWorker
) -> None:
    run = browser.post("/console/playground", part="run", model="echo", prompt="x").text
    job_id = run.partition("/console/jobs/")[2].partition("/")[0]
    assert f'data-events="/console/jobs/{job_id}/events"' in run
    assert 'class="chip queued"' in browser.get(f"/console/playground/runs/{job_id}", part="x").text

    worker.serve("a", "b", "c")

    state = browser.get(f"/console/playground/runs/{job_id}", part="run-state").text
    assert 'class="chip succeeded"' in state and "3 tokens" in state


def test_vectors_are_compared_and_the_nearest_come_first(
    browser: Browser, worker: PlayedWorker
) -> None:
    run = browser.post("/console/playground", part="run", model="encoder", prompt="a\nb\nc").text
    job_id = run.partition("/console/jobs/")[2].partition("/")[0]
    claim = worker.take("encoder")
    worker.end(claim, output={"embeddings": [[1, 0], [0, 1], [0.1, 1]], "dimensions": 2})

    state = browser.get(f"/console/playground/runs/{job_id}", part="run-state").text

    cells = state.partition("<tbody>")[2].partition("</tbody>")[0]
    assert cells.index("0.995") < cells.index("0.100") < cells.index("0.000")


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"model": "llama", "prompt": "x", "temperature": "warm"}, 422, "not a number"),
        ({"model": "llama", "prompt": "x", "temperature": "-1"}, 422, "temperature"),
        ({"model": "own", "prompt": "{"}, 422, "not JSON"),
        ({"model": "absent", "prompt": "x"}, 404, "There is no model"),
    ],
)
def test_what_cannot_run_is_told_where_it_was_asked(
    browser: Browser, fields: dict[str, str], status: int, said: str
) -> None:
    answer = browser.post("/console/playground", part="run", **fields)

    assert answer.status_code == status and said in answer.text
    assert answer.headers["HX-Retarget"] == "#notice"


def test_the_form_fits_the_model(browser: Browser) -> None:
    assert 'name="query"' in browser.get("/console/playground?model=ranker").text
    assert 'name="temperature"' in browser.get("/console/playground?model=llama").text
    assert 'name="system"' in browser.get("/console/playground?model=llama&as=chat").text
    assert "Texts, one a line" in browser.get("/console/playground?model=encoder").text
    assert "as JSON" in browser.get("/console/playground?model=own").text
    assert "No worker serves this model" in browser.get("/console/playground").text
    assert browser.get("/console/playground?model=absent").status_code == 404
