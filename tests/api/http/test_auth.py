import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.http.caller import Access
from api.http.operations import Operation
from api.openapi.document import TABLE
from tests.api.conftest import TOKEN

UNKNOWN = "job_" + "0" * 32


def operations(app: Flask, access: Access) -> list[Operation]:
    return [operation for operation in app.extensions[TABLE] if operation.access is access]


def call(client: FlaskClient, operation: Operation, **headers: str) -> int:
    path = operation.path.replace("{job_id}", UNKNOWN).replace("{slug}", "forbidden")
    return client.open(path, method=operation.method, headers=headers).status_code


def test_the_open_routes_are_just_these(app: Flask, anonymous: FlaskClient) -> None:
    found = operations(app, Access.OPEN)

    answers = {operation.path: call(anonymous, operation) for operation in found}
    assert answers.pop("/webhooks/ingest") == 404, "signed instead, where a secret is set"
    assert set(answers) == {
        *("/", "/health", "/ready", "/openapi.json", "/docs", "/problems/{slug}")
    }
    assert set(answers.values()) == {200, 503}


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong-token-0123456789",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        TOKEN,
        "Bearer \xc3\xbc",
        "Bearer " + "x" * 5000,
    ],
)
def test_everything_else_needs_the_token(
    app: Flask, anonymous: FlaskClient, header: str | None
) -> None:
    headers = {} if header is None else {"Authorization": header}
    for operation in operations(app, Access.TOKEN) + operations(app, Access.TICKET):
        assert call(anonymous, operation, **headers) == 401, operation.path


def test_a_refusal_says_what_to_send(anonymous: FlaskClient) -> None:
    response = anonymous.get("/v1/jobs")

    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.content_type == "application/problem+json"
    assert response.json["code"] == "unauthorized"
    assert "Bearer <token>" in response.json["detail"]
    assert TOKEN not in response.text


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_schemes_name_is_case_insensitive(anonymous: FlaskClient, scheme: str) -> None:
    header = {"Authorization": f"{scheme} {TOKEN}"}

    assert anonymous.get("/v1/jobs", headers=header).status_code == 200


def test_a_bad_request_without_a_token_is_not_even_read(anonymous: FlaskClient) -> None:
    response = anonymous.post("/v1/jobs", data=b"{", content_type="application/json")

    assert response.status_code == 401


def test_a_wrong_token_beside_a_good_ticket_is_refused(
    client: FlaskClient, anonymous: FlaskClient
) -> None:
    job = client.post("/v1/jobs", json={"model": "echo", "prompt": "x"}).json
    path = job["urls"]["events"].removeprefix("http://localhost")

    assert anonymous.get(path, headers={"Authorization": "Bearer x"}).status_code == 401
    assert anonymous.head(path).status_code == 200
