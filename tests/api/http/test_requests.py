"""Bad bodies: always a 4xx problem document that says what to do, never a 5xx, never a lost job."""

import json
from typing import Any

import msgspec
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.http import body_bounds, requests
from api.services import of
from shared.domain.errors import InvalidRequest
from shared.domain.requests.parsing import parse_request
from shared.domain.requests.text_generation_params import TextGenerationParams
from shared.domain.schemas import JobRequest
from shared.domain.wire import MAX_FAULTS_SHOWN
from tests.api.http.sending import ECHO, JSON, assert_problem, post, reading
from tests.conftest import examples


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{} {}",
        b"{'model': 'echo'}",
        b'{"model": NaN}',
        b'{"model": Infinity}',
        b'{"model": "echo", "prompt": "\\ud800"}',
        b'{"model": "echo", "prompt": "\\udc00 x"}',
        b'{"model": "echo", "prompt": "\xff"}',
        b'{"model": "echo", "prompt": "\xed\xa0\x80"}',
        b'{"model": "echo", "prompt": "a\nb"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b'{"a":' + b"[" * 30_000,
        b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"model": 1e999}',
        b'{"model": ' + b"9" * 5000 + b"}",
        b"\x00",
        b'{"model": "echo", "prompt": "a", "prompt": "b"}',
        b'{"model": "echo", "prompt": "a", "\\u0070rompt": "b"}',
        b'{"model": "echo", "input": [{"a:": 1, "a:": 1}]}',
    ],
)
def test_what_is_not_json_is_malformed(client: FlaskClient, body: bytes) -> None:
    assert_problem(post(client, body), "malformed_json")


@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        1,
        None,
        {},
        {"model": "echo"},
        {"prompt": "x"},
        {"model": "echo", "prompt": "x", "input": "x"},
        {"model": "echo", "prompt": None},
        {"model": "echo", "prompt": 5},
        {"model": "echo", "input": None},
        {"model": "echo", "input": {"a": 1}},
        {"model": 5, "prompt": "x"},
        {"model": "", "prompt": "x"},
        {"model": "x" * 129, "prompt": "x"},
        {**ECHO, "promt": "typo"},
        {**ECHO, "webhook": {"uri": "https://example.com"}},
        {**ECHO, "params": []},
        {**ECHO, "params": {"repeat": "2"}},
        {**ECHO, "params": {"repeat": True}},
        {**ECHO, "params": {"repeat": 0}},
        {**ECHO, "params": {"temperature": 1}},
        {**ECHO, "priority": "urgent"},
        {**ECHO, "expires_in": 0},
        {**ECHO, "expires_in": -1},
        {**ECHO, "expires_in": "60"},
        {**ECHO, "expires_in": 1e12},
        {**ECHO, "metadata": {"a": 1}},
        {**ECHO, "metadata": {"a" * 65: "x"}},
        {**ECHO, "metadata": {str(number): "x" for number in range(17)}},
        {**ECHO, "params": {"repeat": 2**63}},
        {**ECHO, "metadata": {"a": 2**200}},
        {"model": "own", "input": [-(2**64)]},
        {"model": "own", "input": 2**70},
        {"model": "llama", "prompt": "x", "params": {"max_new_tokens": 65}},
        {"model": "llama", "prompt": "x", "params": {"temperature": -1}},
        {"model": "llama", "prompt": "x", "params": {"top_p": 0}},
        {"model": "llama", "prompt": "x", "params": {"stop": {"a": 1}}},
        {"model": "llama", "prompt": "x", "params": {"stop": True}},
        {"model": "llama", "prompt": "x", "params": {"stop": ""}},
        {"model": "own", "input": None},
        {"model": None, "prompt": "x"},
        {**ECHO, "promt": None},
        {**ECHO, "params": {"temprature": None}},
        {**ECHO, "webhook": {"url": None}},
        {"model": "llama", "prompt": "x", "params": {"seed": 2**63}},
        {"model": "llama", "input": {"messages": []}},
        {"model": "llama", "input": {"messages": [{"role": "king", "content": "x"}]}},
        {"model": "encoder", "input": []},
        {"model": "encoder", "input": ["x", 5]},
        {"model": "encoder", "input": ["x"] * 513},
    ],
)
def test_what_does_not_fit_the_schema_is_invalid(client: FlaskClient, body: Any) -> None:
    problem = assert_problem(post(client, body), "invalid_request")

    for row in problem.get("errors", []):
        assert set(row) == {"loc", "msg", "type"}
    assert client.get("/v1/jobs").json["data"] == []


def test_a_validation_problem_names_each_fault(client: FlaskClient) -> None:
    problem = assert_problem(post(client, {**ECHO, "x": 1, "expires_in": "1"}), "invalid_request")

    assert {tuple(row["loc"]) for row in problem["errors"]} == {("x",), ("expires_in",)}
    typo = assert_problem(post(client, {**ECHO, "params": {"repeet": 1}}), "invalid_request")
    assert typo["errors"][0]["loc"] == ["params", "repeet"]
    assert "params.repeet" in typo["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {**ECHO, **{f"{number}{'x' * 1000}": 1 for number in range(40)}},
        {**ECHO, "metadata": {"x" * 40_000: "y"}},
        {**ECHO, "params": {"x" * 40_000: "y"}},
        {**ECHO, "model": "x" * 40_000},
    ],
)
def test_a_refusal_is_short_however_long_the_names_in_a_body(
    client: FlaskClient, body: dict[str, Any]
) -> None:
    response = post(client, body)
    assert response.status_code in (404, 422) and len(response.data) < 8_000


def of_many(count: int) -> dict[str, int]:
    return {f"n{number}": 1 for number in range(count)}


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({**ECHO, **of_many(4000)}, []),
        ({**ECHO, "params": of_many(4000)}, ["params"]),
        ({**ECHO, "webhook": {"url": "https://a.example", **of_many(4000)}}, ["webhook"]),
        (
            {"model": "llama", "input": {"messages": [{"role": "user", **of_many(4000)}]}},
            ["input", "messages", 0],
        ),
        ({"model": "llama", "input": {"messages": [of_many(40)] * 99}}, ["input", "messages", 0]),
        ({"model": "llama", "prompt": "x", "params": {"stop": [1] * 9000}}, ["params", "stop"]),
        ({**ECHO, "webhook": {"url": "https://a.example", "events": ["x"] * 9000}}, ["webhook"]),
        ({**ECHO, "metadata": of_many(4000)}, ["metadata"]),
        ({"model": "encoder", "input": [1] * 9000}, ["input"]),
    ],
    ids=lambda given: json.dumps(given)[:60],
)
def test_many_faults_of_a_kind_are_not_all_looked_for(
    client: FlaskClient, body: dict[str, Any], place: list[Any]
) -> None:
    response = post(client, body)

    problem = assert_problem(response, "invalid_request")
    assert 1 <= len(problem["errors"]) <= 32 and len(response.data) < 8_000
    assert all(row["loc"][: len(place)] == place for row in problem["errors"]), problem


def test_unknown_members_cost_as_much_as_they_are_told() -> None:
    """Of a body of thousands the validator sees no more than a refusal names."""
    seen = JobRequest._as_meant({**ECHO, **of_many(4000)})

    assert len(seen) == len(ECHO) + MAX_FAULTS_SHOWN


LEFT_OUT = [
    *("priority", "expires_in", "webhook", "metadata", "params", "input"),
    *(("params", name) for name in TextGenerationParams.model_fields),
    ("webhook", "events"),
    ("metadata", "note"),
]


@pytest.mark.parametrize("name", LEFT_OUT, ids=str)
def test_what_is_null_was_left_out(app: Flask, name: str | tuple[str, str]) -> None:
    plain: dict[str, Any] = {"model": "llama", "prompt": "x"}
    if isinstance(name, tuple):
        inside = {"url": "https://a.example"} if name[0] == "webhook" else {}
        plain[name[0]] = inside
        body = {**plain, name[0]: {**inside, name[1]: None}}
    else:
        body = {**plain, name: None}

    catalog = of(app).catalog
    wanted, expected = parse_request(body, catalog), parse_request(plain, catalog)

    assert wanted.params == expected.params
    assert msgspec.structs.replace(wanted.request, params={}) == msgspec.structs.replace(
        expected.request, params={}
    )


def test_a_scalar_stands_for_a_list_of_one(app: Flask) -> None:
    body = {
        "model": "llama",
        "prompt": "x",
        "params": {"stop": "there", "stop_token_ids": 7},
        "webhook": {"url": "https://a.example", "events": "completed"},
    }

    parsed = parse_request(body, of(app).catalog)

    assert (parsed.params["stop"], parsed.params["stop_token_ids"]) == (["there"], [7])
    webhook = parsed.request.webhook
    assert webhook is not None and webhook.events == ["completed"]


def test_an_unknown_model_is_404_and_names_those_here(client: FlaskClient) -> None:
    problem = assert_problem(post(client, {"model": "gpt-9", "prompt": "x"}), "unknown_model")

    assert "echo" in problem["detail"]


def test_a_body_over_the_limit_is_413(client: FlaskClient) -> None:
    body = {**ECHO, "prompt": "x" * (64 * 1024)}

    problem = assert_problem(post(client, body), "body_too_large")

    assert "65536" in problem["detail"]


@pytest.mark.parametrize("prompt", ["\x00", "a\r\nb", "\U0001f9ff" * 100, "", "\ufeff", "\u2028"])
def test_odd_prompts_are_fine(client: FlaskClient, prompt: str) -> None:
    assert post(client, {"model": "echo", "prompt": prompt}).status_code == 202


def test_depth_and_integers_are_bounded_exactly(app: Flask) -> None:
    def read(value: Any) -> Any:
        with reading(app, method="POST", data=json.dumps(value), content_type=JSON) as here:
            return requests.json_object(here)

    deepest: Any = 1
    for _ in range(body_bounds.MAX_DEPTH - 1):
        deepest = {"a": deepest}
    largest = {"a": body_bounds.MAX_INTEGER, "b": [-body_bounds.MAX_INTEGER]}
    assert read(deepest) == deepest
    assert read(largest) == largest
    with pytest.raises(InvalidRequest):
        read({"a": body_bounds.MAX_INTEGER + 1})


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("echo")
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=20,
)
FIELDS = ("model", "prompt", "input", "params", "priority", "expires_in", "metadata", "odd")
BODIES = TREES | st.dictionaries(st.sampled_from(FIELDS), TREES, max_size=6).map(
    lambda body: {"model": "own", **body}
)


@settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(BODIES)
def test_any_json_is_taken_or_refused_with_reasons(client: FlaskClient, body: Any) -> None:
    response = post(client, body)

    if response.status_code == 202:
        got = client.get(f"/v1/jobs/{response.json['id']}").json
        given = body.get("metadata") or {}
        assert got["metadata"] == {
            name: value for name, value in given.items() if value is not None
        }
    else:
        assert 400 <= response.status_code < 500, response.json
        assert_problem(response, response.json["code"])


@settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused_with_reasons(client: FlaskClient, body: bytes) -> None:
    response = post(client, body)

    assert 400 <= response.status_code < 500
    assert_problem(response, response.json["code"])
