"""The playground: its forms, and the jobs that they make."""

import html
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from flask import Flask

from api.console.forms import body_of, kind_of, members_of, messages_of
from api.console.pairs import places
from shared.domain.errors import InvalidRequest
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
    # `bytes` counts the digits of the seed that was drawn for it.
    own = {"id", "created", "deadline", "seq", "request_id", "bytes"}
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

    state = browser.get(f"/console/playground/runs/{job_id}", part="run-state-1").text
    assert 'class="chip succeeded"' in state and "3 tokens" in state


def test_vectors_are_compared_and_the_nearest_come_first(
    browser: Browser, worker: PlayedWorker
) -> None:
    run = browser.post("/console/playground", part="run", model="encoder", prompt="a\nb\nc").text
    job_id = run.partition("/console/jobs/")[2].partition("/")[0]
    claim = worker.take("encoder")
    worker.end(claim, output={"embeddings": [[1, 0], [0, 1], [0.1, 1]], "dimensions": 2})

    state = browser.get(f"/console/playground/runs/{job_id}", part="run-state-1").text

    assert state.count("<circle") == 3 and state.count("<line") == 2, "a cosine of 0 has no line"
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
    assert "No worker serves echo now" in browser.get("/console/playground").text
    assert browser.get("/console/playground?model=absent").status_code == 404


def chat(browser: Browser, **fields: str) -> tuple[str, str]:
    """What a chat's form brings, and the id of the job."""
    answer = browser.post(
        "/console/playground", part="run", model="llama", **{"as": "chat"}, **fields
    )
    assert answer.status_code == 200, answer.text
    return answer.text, answer.text.partition("/console/jobs/")[2].partition("/")[0]


def fields_in(page: str) -> dict[str, str]:
    """The hidden fields of the messages of a chat, as a browser sends them with the next one."""
    found = re.findall(r'name="(turn:\d+)" value="([^"]*)"', page)
    return {name: html.unescape(value) for name, value in found}


def test_a_chat_goes_on_with_all_that_was_said(
    browser: Browser, worker: PlayedWorker, store: JobStore
) -> None:
    page, job_id = chat(browser, system="be brief", prompt="<b>hi</b>")
    assert 'id="turns" hx-swap-oob="true"' in page and "<b>" not in page
    claim = worker.take("llama")
    said = {"role": "assistant", "content": "hello & so on"}
    worker.end(claim, output={"text": "hello & so on", "finish_reason": "stop", "message": said})
    state = browser.get(f"/console/playground/runs/{job_id}?turn=1", part="run-state-1").text
    assert 'id="turn-1" hx-swap-oob="true"' in state

    earlier = fields_in(page) | fields_in(state)
    _, second = chat(browser, system="be brief", prompt="again", **earlier)

    asked = msgspec.json.decode(store.request(second) or b"")["content"]["messages"]
    assert [(one["role"], one["content"]) for one in asked] == [
        ("system", "be brief"),
        ("user", "<b>hi</b>"),
        ("assistant", "hello & so on"),
        ("user", "again"),
    ]


def test_a_model_calls_a_tool_and_gets_what_it_brings(
    browser: Browser, worker: PlayedWorker, store: JobStore
) -> None:
    tools = '[{"type": "function", "function": {"name": "weather", "parameters": {}}}]'
    page, job_id = chat(browser, prompt="Is it warm?", tools=tools)
    asked = msgspec.json.decode(store.request(job_id) or b"")["content"]
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["weather"]
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    claim = worker.take("llama")
    worker.end(claim, output={"text": "x", "finish_reason": "tool_calls", "message": message})
    state = browser.get(f"/console/playground/runs/{job_id}?turn=1", part="run-state-1").text
    assert "weather({})" in state and 'name="result:call_1"' in state

    earlier = fields_in(page) | fields_in(state)
    _, second = chat(browser, tools=tools, **earlier, **{"result:call_1": "18 C"})

    messages = msgspec.json.decode(store.request(second) or b"")["content"]["messages"]
    assert [one["role"] for one in messages] == ["user", "assistant", "tool"]
    assert messages[-1]["tool_call_id"] == "call_1" and messages[-1]["content"] == "18 C"


def test_two_models_run_side_by_side(browser: Browser, store: JobStore) -> None:
    page = browser.get("/console/playground?model=echo&beside=llama").text
    assert "<option selected>llama</option>" in page
    assert "ranker" not in page.partition('id="beside"')[2].partition("</select>")[0]

    runs = browser.post(
        "/console/playground", part="run", model="echo", beside="llama", prompt="x"
    ).text

    jobs = re.findall(r'data-events="/console/jobs/(\w+)/events"', runs)
    assert [store.get(one).fields["model"] for one in jobs] == ["echo", "llama"]
    assert 'id="run-state-1"' in runs and 'id="run-state-2"' in runs
    half = browser.post(
        "/console/playground", part="run", model="echo", beside="absent", prompt="x"
    ).text
    assert half.count("data-events") == 1 and "There is no model" in half


SCHEMA = {
    "type": "object",
    "required": ["name", "count"],
    "properties": {
        "name": {"type": "string", "description": "Whose it is."},
        "count": {"type": "integer", "default": 3},
        "ratio": {"type": "number"},
        "loud": {"type": "boolean"},
        "kind": {"enum": ["a", "b", 3], "default": "b"},
        "rest": {"type": "array"},
    },
}
OWN = ModelSpec(name="m", engine="somebody.engine:Model", input_schema=SCHEMA)


def test_a_schema_becomes_a_form_and_the_form_an_input() -> None:
    filled = {"name": "", "count": "4", "ratio": "0.5", "loud": "true", "kind": "3", "rest": "[1]"}

    body = body_of(OWN, {f"member:{name}": value for name, value in filled.items()})

    assert kind_of(OWN) == "members"
    assert body["input"] == {
        "name": "",
        "count": 4,
        "ratio": 0.5,
        "loud": True,
        "kind": 3,
        "rest": [1],
    }
    assert body_of(OWN, {"member:count": "1", "member:ratio": ""})["input"] == {
        "name": "",
        "count": 1,
    }
    defaults = {one.name: one.default for one in members_of(OWN)}
    assert defaults["count"] == "3" and defaults["kind"] == '"b"'


@pytest.mark.parametrize(
    ("member", "given"),
    [("count", "1.5"), ("count", "x"), ("ratio", '"1"'), ("ratio", "true"), ("rest", "[")],
)
def test_what_does_not_fit_its_field_is_refused_by_name(member: str, given: str) -> None:
    with pytest.raises(InvalidRequest, match=member):
        body_of(OWN, {f"member:{member}": given})


@pytest.mark.parametrize("schema", [{}, {"type": "array"}, {"properties": 3}])
def test_a_schema_that_is_of_no_object_gets_a_field_for_json(schema: dict[str, Any]) -> None:
    spec = ModelSpec(name="m", engine="somebody.engine:Model", input_schema=schema)

    assert kind_of(spec) == "json"
    assert body_of(spec, {"prompt": "[1]"})["input"] == [1]


@pytest.mark.parametrize("turn", ["3", "[]", "{"])
def test_what_is_no_message_is_refused(turn: str) -> None:
    with pytest.raises(InvalidRequest):
        messages_of({"turn:0": turn})


def test_near_vectors_lie_close_together() -> None:
    one, near, far = places([[1.0, 0.0], [0.95, 0.1], [-1.0, 0.2]])

    assert math.dist(one, near) < math.dist(one, far)
    assert places([]) == [] and places([[1.0, 2.0]]) == [(0.5, 0.5)]
    assert places([[1.0, 0.0]] * 3) == [(0.5, 0.5)] * 3
    assert all(0 <= value <= 1 for point in (one, near, far) for value in point)
