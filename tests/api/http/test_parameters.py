"""Parameters of URLs: what is wrong or means nothing is a 422 that says so."""

from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.api.http.test_requests import ECHO, assert_problem, post


def refusal(response: TestResponse) -> dict[str, Any]:
    """The problem document of a refusal."""
    body: Any = response.json
    return assert_problem(response, body["code"])


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=-1",
        "limit=1e1",
        "limit=" + "9" * 5000,
        "limit=²",
        "status=done",
        "status=",
    ],
)
def test_bad_listing_parameters_are_422(client: FlaskClient, query: str) -> None:
    assert refusal(client.get(f"/v1/jobs?{query}"))["code"] == "invalid_parameter"


@pytest.mark.parametrize("cursor", ["x", "", "job_", "job_" + "z" * 32, "-", "["])
def test_a_bad_listing_cursor_is_422(client: FlaskClient, cursor: str) -> None:
    assert (
        refusal(client.get("/v1/jobs", query_string={"cursor": cursor}))["code"] == "invalid_cursor"
    )


@pytest.mark.parametrize("wait", ["x", "-1", "", "1e9999", "nan", "inf", "9" * 40, "²", "1."])
def test_bad_waits_are_422(client: FlaskClient, wait: str) -> None:
    made: Any = post(client, ECHO).json
    job_id = made["id"]

    assert refusal(client.get(f"/v1/jobs/{job_id}?wait={wait}"))["code"] == "invalid_parameter"
    response = client.post(f"/v1/infer?timeout={wait}", json=ECHO)
    assert refusal(response)["code"] == "invalid_parameter"


def test_a_timeout_over_the_maximum_is_422(client: FlaskClient) -> None:
    assert refusal(client.post("/v1/infer?timeout=601", json=ECHO))["code"] == "invalid_parameter"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/jobs?stauts=failed", "stauts"),
        ("/v1/jobs?limit=1&limit=2", "2 times"),
        ("/v1/models?x", "none"),
        (f"/v1/jobs/job_{'0' * 32}?wiat=5", "wait"),
        ("/v1/jobs?%00=", "parameter"),
    ],
)
def test_a_parameter_that_means_nothing_is_422(client: FlaskClient, path: str, said: str) -> None:
    found = refusal(client.get(path))
    assert found["code"] == "invalid_parameter" and said in found["detail"]


def test_probes_take_what_balancers_add(client: FlaskClient) -> None:
    assert client.get("/health?source=balancer&x=1&x=2").status_code == 200
