"""Headers, content types, paths and methods of requests, as far as they say what is wanted."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.http import requests
from tests.api.conftest import PlayedWorker
from tests.api.http.sending import ECHO, assert_problem, post, reading


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "",
        "application/jsonx",
        "multipart/form-data",
        "application/json; charset=latin1",
    ],
)
def test_another_content_type_is_415(client: FlaskClient, kind: str) -> None:
    assert_problem(post(client, ECHO, content_type=kind), "unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/json; charset=UTF-8", "Application/JSON"])
def test_json_in_other_spellings_is_taken(client: FlaskClient, kind: str) -> None:
    assert post(client, ECHO, content_type=kind).status_code == 202


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("wait=0", 0),
        ("WAIT=5", 5),
        ("respond-async, wait = 7", 7),
        ('foo="a, wait=1", wait=8; bar', 8),
        ("wait=3, wait=9", 3),
        ("wait=999999999999", 60),
        ("handling=lenient", None),
        (",,;=", None),
        ('wait="', None),
        ("waiting=5", None),
        ("wait", 60),
        (" Wait ", 60),
        ("wait=", 60),
        ('wait=""', 60),
        ("wait; poll=1", 60),
        ('wait = "9"', 9),
        ("return=minimal, wait=4", 4),
        ("return=minimal; wait=4", None),
        ("respond-async,wait", 60),
        ("wait=x, wait=4", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=²", None),
        ("wait=1 2", None),
        ("wait=" + "9" * 4000, 60),
        ("wait=0x10", None),
        ("=", None),
        ("", None),
        ("\x00, ;;, wait=2", 2),
    ],
)
def test_prefer_is_read_as_rfc_7240_says(app: Flask, value: str, wait: int | None) -> None:
    with reading(app, headers={"Prefer": value}) as here:
        assert requests.preferred_wait(here.environ) == wait


@pytest.mark.parametrize("value", ["wait=x", "wait=-1", "foo", "return=minimal", "wait=1e9", ",;="])
def test_no_preference_is_an_error(client: FlaskClient, value: str) -> None:
    response = post(client, ECHO, headers={"Prefer": value})

    assert response.status_code == 202 and "Preference-Applied" not in response.headers


def test_a_wait_without_a_number_is_as_long_as_the_server_waits(
    client: FlaskClient, worker: PlayedWorker, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    meanwhile(lambda: worker.serve("a"))
    response = post(client, ECHO, headers={"Prefer": "wait"})

    assert (response.status_code, response.json["status"]) == (200, "succeeded")
    assert response.headers["Preference-Applied"] == "wait=60"


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        ("no-store", True),
        ("No-Store", True),
        ("max-age=0, NO-STORE", True),
        ("no-cache,no-store", True),
        ("no-store=1", True),
        ("no-cache", False),
        ('private="a, no-store"', False),
        ("no-storey", False),
        (",", False),
    ],
)
def test_no_store_is_found_among_other_directives(app: Flask, value: str, asked: bool) -> None:
    with reading(app, headers={"Cache-Control": value}) as here:
        assert requests.no_store(here.environ) is asked


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "ü"])
def test_a_bad_idempotency_key_is_422(client: FlaskClient, key: str) -> None:
    response = post(client, ECHO, headers={"Idempotency-Key": key.encode().decode("latin-1")})

    assert_problem(response, "invalid_parameter")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/nothing", "not_found"),
        ("GET", "/v1/jobs/", "not_found"),
        ("GET", "//v1/jobs", "not_found"),
        ("GET", "/v1/jobs/a/b/c", "not_found"),
        ("GET", "/v1/../health", "not_found"),
        ("GET", "/%ff%00", "bad_request"),
        ("PUT", "/v1/jobs", "method_not_allowed"),
        ("GET", "/v1/infer", "method_not_allowed"),
        ("BREW", "/v1/jobs", "method_not_allowed"),
        ("POST", "/health", "method_not_allowed"),
        ("TRACE", "/", "method_not_allowed"),
    ],
)
def test_odd_paths_and_methods(client: FlaskClient, method: str, path: str, code: str) -> None:
    response = client.open(path, method=method)

    assert_problem(response, code)
    if code == "method_not_allowed":
        assert response.headers["Allow"]


@pytest.mark.parametrize("given", ["abc", "a.b-c_D9", "x" * 128])
def test_a_sane_request_id_is_kept(client: FlaskClient, given: str) -> None:
    assert client.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "ü", "<script>", "a;b"])
def test_another_request_id_is_replaced(client: FlaskClient, given: str) -> None:
    header = {"X-Request-ID": given.encode().decode("latin-1")}

    made = client.get("/health", headers=header).headers["X-Request-ID"]

    assert made != given and made.startswith("req_")
