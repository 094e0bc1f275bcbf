"""Every route with every kind of credential: the right status, and bodies that tell nothing apart."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.http.caller import Access
from api.http.operations import Operation
from api.openapi.document import TABLE
from shared.settings import Settings, key_secret
from shared.store.api_key_tokens import Signer, new_token
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, PlayedWorker

UNKNOWN = "job_" + "0" * 32
OPERATORS = ("reset_breaker", "list_api_keys", "get_api_key", "update_api_key")
"""What is an administrator's of the tenant `default` alone."""
ALL = frozenset(Scope)
OURS = Grant("default", ALL)


@pytest.fixture
def keys(settings: Settings, store: JobStore) -> ApiKeys:
    return ApiKeys(store.redis, store.keys, Signer(key_secret(settings)))


@pytest.fixture
def guarded(app: Flask) -> list[Operation]:
    """All operations that ask for a key."""
    table: tuple[Operation, ...] = app.extensions[TABLE]
    found = [operation for operation in table if operation.access is not Access.OPEN]
    assert len(found) >= 10
    return found


@pytest.fixture
def job_id(client: FlaskClient) -> str:
    """A job of the default tenant."""
    found: str = client.post("/v1/jobs", json={"model": "echo", "prompt": "mine"}).json["id"]
    return found


def refused_tokens(keys: ApiKeys) -> Iterator[tuple[str, str | None]]:
    """Headers that nobody may enter with, by name."""
    _, good = keys.create(OURS)
    made, of_revoked = keys.create(OURS)
    keys.revoke(made.id)
    _, of_expired = keys.create(replace(OURS, expires=time.time() - 1))
    yield "none", None
    yield "empty", ""
    yield "wrong", f"Bearer {new_token(made.id)}"
    yield "unknown", f"Bearer {new_token('0' * 16)}"
    yield "truncated", f"Bearer {good[:-1]}"
    yield "too long", f"Bearer {good}x"
    yield "expired", f"Bearer {of_expired}"
    yield "revoked", f"Bearer {of_revoked}"
    yield "another scheme", f"Basic {good}"
    yield "default's, truncated", AUTH["Authorization"][:-1]


@pytest.fixture
def call(app: Flask) -> Callable[..., tuple[int, Any]]:
    """Status and document of one operation; all that may differ by itself is made equal."""
    caller = app.test_client()

    def made(operation: Operation, header: str | None, job_id: str = UNKNOWN) -> tuple[int, Any]:
        headers = {
            "X-Request-ID": "same",
            **({"Authorization": header} if header is not None else {}),
        }
        path = operation.path.replace("{job_id}", job_id)
        # Elsewhere than on this machine, from where some routes are open.
        elsewhere = {"REMOTE_ADDR": "192.0.2.1"}
        response = caller.open(
            path, method=operation.method, headers=headers, environ_overrides=elsewhere
        )
        text = response.get_data(as_text=True).replace(job_id, "JOB")
        response.close()
        return response.status_code, text

    return made


def _without_error(body: str) -> str:
    """A problem without its `error`, which those of the listing of models have; other answers as they are."""
    problem = json.loads(body)
    return json.dumps({k: v for k, v in problem.items() if "type" not in problem or k != "error"})


def test_whoever_has_no_right_token_gets_one_and_the_same_401(
    guarded: list[Operation], call: Callable[..., tuple[int, Any]], keys: ApiKeys, job_id: str
) -> None:
    answers = {
        (operation.dialect is None, kind, status, body)
        for kind, header in refused_tokens(keys)
        for operation in guarded
        for status, body in (call(operation, header, UNKNOWN), call(operation, header, job_id))
    }

    assert {status for _, _, status, _ in answers} == {401}
    for native in (True, False):
        assert len({_without_error(body) for one, _, _, body in answers if one is native}) == 1


def test_a_job_of_another_tenant_does_not_exist(
    guarded: list[Operation],
    call: Callable[..., tuple[int, Any]],
    keys: ApiKeys,
    job_id: str,
    client: FlaskClient,
) -> None:
    _, token = keys.create(Grant("other", ALL))
    on_jobs = [operation for operation in guarded if "{job_id}" in operation.path]
    assert len(on_jobs) >= 5

    for operation in on_jobs:
        theirs = call(operation, f"Bearer {token}", job_id)
        assert theirs[0] == 404, operation.path
        assert theirs == call(operation, f"Bearer {token}", UNKNOWN), operation.path

    assert client.get(f"/v1/jobs/{job_id}").json["status"] == "queued"


def test_listings_show_a_tenant_its_own(
    anonymous: FlaskClient, keys: ApiKeys, job_id: str, worker: PlayedWorker
) -> None:
    worker.fail("engine_error")
    _, token = keys.create(Grant("other", ALL))
    theirs = {"Authorization": f"Bearer {token}"}
    _, token = keys.create(OURS)
    ours = {"Authorization": f"Bearer {token}"}

    mine = anonymous.post("/v1/jobs", json={"model": "echo", "prompt": "x"}, headers=theirs).json

    assert [row["id"] for row in anonymous.get("/v1/jobs", headers=ours).json["data"]] == [job_id]
    found = anonymous.get("/v1/jobs", headers=theirs).json["data"]
    assert [row["id"] for row in found] == [mine["id"]]
    assert anonymous.get("/v1/dead-letters", headers=theirs).json["data"] == []


def test_an_idempotency_key_is_the_tenants_own(
    anonymous: FlaskClient, client: FlaskClient, keys: ApiKeys
) -> None:
    _, token = keys.create(Grant("other", ALL))
    theirs = {"Authorization": f"Bearer {token}", "Idempotency-Key": "same"}
    body = {"model": "echo", "prompt": "x"}

    mine = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "same"})
    other = anonymous.post("/v1/jobs", json=body, headers=theirs)

    assert (mine.status_code, other.status_code) == (202, 202)
    assert mine.json["id"] != other.json["id"]


def test_a_scope_that_is_missing_is_named(
    guarded: list[Operation], call: Callable[..., tuple[int, Any]], keys: ApiKeys, job_id: str
) -> None:
    for scope in (Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.METRICS):
        needing = [operation for operation in guarded if operation.scope is scope]
        _, without = keys.create(Grant("default", ALL - {scope, Scope.ADMIN}))
        _, alone = keys.create(Grant("default", frozenset({scope})))
        for operation in needing:
            for one in (job_id, UNKNOWN):
                status, body = call(operation, f"Bearer {without}", one)
                assert status == 403, operation.path
                assert '"code":"forbidden"' in body and scope in body
            assert call(operation, f"Bearer {alone}")[0] not in (401, 403), operation.path


def test_admin_may_do_everything_within_its_tenant(
    guarded: list[Operation], call: Callable[..., tuple[int, Any]], keys: ApiKeys, job_id: str
) -> None:
    _, token = keys.create(Grant("other", frozenset({Scope.ADMIN})))

    for operation in guarded:
        refused = call(operation, f"Bearer {token}", job_id)[0] in (401, 403)
        shared = operation.name in ("show_metrics", *OPERATORS)
        assert refused == shared, operation.path


def test_what_all_tenants_share_belongs_to_the_operator(
    anonymous: FlaskClient, client: FlaskClient, keys: ApiKeys
) -> None:
    path = "/v1/models/echo/breaker/reset"
    for grant in (
        Grant("other", ALL),
        Grant("default", frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.METRICS})),
    ):
        _, token = keys.create(grant)
        refused = anonymous.post(path, headers={"Authorization": f"Bearer {token}"})
        assert (refused.status_code, refused.json["code"]) == (403, "forbidden")
    _, token = keys.create(Grant("default", frozenset({Scope.ADMIN})))
    ours = {"Authorization": f"Bearer {token}"}
    assert anonymous.post(path, headers=ours).status_code == 200
    assert client.post(path).status_code == 200


def test_reading_needs_less_than_writing(guarded: list[Operation]) -> None:
    for operation in guarded:
        reading = operation.method == "GET"
        # Who reads this secret can sign.
        if operation.name == "get_default_secret":
            reading = False
        writing = {Scope.ADMIN} if operation.name in OPERATORS else {Scope.JOBS_WRITE}
        wanted = {Scope.JOBS_READ, Scope.METRICS, Scope.ADMIN} if reading else writing
        assert operation.scope in wanted, operation.path


def test_a_ticket_opens_one_jobs_events_and_nothing_else(
    guarded: list[Operation], client: FlaskClient, anonymous: FlaskClient, job_id: str
) -> None:
    ticket = client.get(f"/v1/jobs/{job_id}").json["urls"]["events"].partition("ticket=")[2]

    for operation in guarded:
        path = operation.path.replace("{job_id}", job_id)
        response = anonymous.open(
            f"{path}?ticket={ticket}",
            method="HEAD" if operation.access is Access.TICKET else operation.method,
            environ_overrides={"REMOTE_ADDR": "192.0.2.1"},
        )
        assert response.status_code == (200 if operation.access is Access.TICKET else 401), path
    assert anonymous.head(f"/v1/jobs/{UNKNOWN}/events?ticket={ticket}").status_code == 401
