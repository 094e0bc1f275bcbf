"""The audit log over HTTP, and that no route which changes something goes past it."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient

from api.console.guard import NAME, Console
from api.http.caller import Access
from api.http.operations import TABLE, Answer, Operations
from shared.domain.audit import Action
from shared.settings import Settings, key_secret
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH

ABSENT = "job_" + "0" * 32
IDS = {"model": "echo", "file_id": "file-" + "0" * 32, "batch_id": "batch_" + "0" * 32}
IDS |= {"key_id": "0" * 16, "endpoint_id": "we_" + "0" * 32, "response_id": "resp_" + "0" * 32}
MAKE_JOBS = {
    *("POST /v1/jobs", "POST /v1/infer", "POST /v1/infer/stream", "POST /v1/responses"),
    *("POST /v1/chat/completions", "POST /v1/completions", "POST /v1/embeddings"),
    *("POST /v1/rerank", "POST /v1/predictions", "POST /v1/models/{owner}/{name}/predictions"),
    *("POST /v1/deployments/{owner}/{name}/predictions", "POST /webhooks/ingest"),
}


@pytest.fixture
def tokens(settings: Settings, store: JobStore) -> Callable[..., dict[str, str]]:
    """The header of a new key of these scopes."""

    def made(*scopes: Scope, tenant: str = "default") -> dict[str, str]:
        keys = ApiKeys(store.redis, store.keys, Signer(key_secret(settings)))
        _, token = keys.create(Grant(tenant, frozenset(scopes)))
        return {"Authorization": f"Bearer {token}"}

    return made


def listed(client: FlaskClient, query: str = "", headers: Any = AUTH) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/admin/audit{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json["data"]
    return found


def test_every_route_that_changes_something_is_written_down(
    app: Flask, client: FlaskClient
) -> None:
    changing = [op for op in app.extensions[TABLE] if op.method != "GET"]
    assert {op.endpoint for op in changing if op.changes is None} == MAKE_JOBS

    for op in changing:
        if op.changes is None:
            continue
        path = re.sub(r"{(\w+)}", lambda name: IDS.get(name[1], ABSENT), op.path)
        client.open(path, method=op.method, headers=AUTH, json={})
        newest = listed(client, "?limit=1")[0]
        assert newest["action"] == op.changes, op.endpoint
        assert newest["outcome"] != "begun", op.endpoint
        named = [IDS.get(name, ABSENT) for name in re.findall(r"{(\w+)}", op.path)]
        assert newest["targets"][: len(named)] == named, op.endpoint


def test_a_route_that_does_not_say_what_it_changes_is_not_registered() -> None:
    with pytest.raises(TypeError, match="audit"):
        Operations("x", __name__).operation("POST", "/v1/x", answers={200: Answer("x")})
    with pytest.raises(TypeError, match="audit"):
        Console().page("POST", "/x")
    Operations("x", __name__).operation(
        "POST", "/v1/x", answers={200: Answer("x")}, access=Access.OPEN
    )


def test_every_change_in_the_console_is_written_down_but_those_of_one_s_own_session(
    app: Flask,
) -> None:
    views = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith(f"{NAME}.")]
    posts = {rule.rule for rule in views if set(rule.methods or ()) - {"GET", "HEAD", "OPTIONS"}}
    blueprint = app.blueprints[NAME]

    assert isinstance(blueprint, Console) and isinstance(blueprint, Blueprint)
    own = {"/console/sign-in", "/console/sign-in/ticket", "/console/sign-out"}
    own |= {"/console/preferences", "/console/playground"}
    own |= {"/console/api/<path:rest>"}  # The route of the API that it calls writes it down.
    assert posts - set(blueprint.changes) == own


def test_who_what_from_where_and_how_it_went(client: FlaskClient) -> None:
    body = {"model": "echo", "prompt": "x"}
    job_id = client.post("/v1/jobs", json=body, headers=AUTH).json["id"]
    said = {"User-Agent": "curl/8", "X-Request-ID": "mine"}
    client.post(f"/v1/jobs/{job_id}/cancel", headers={**AUTH, **said})
    client.post(f"/v1/jobs/{ABSENT}/cancel", headers=AUTH)

    refused, done = listed(client)
    assert (refused["outcome"], refused["targets"]) == ("job_not_found", [ABSENT])
    assert {name: done[name] for name in done if name not in ("id", "at")} == {
        "action": "job.cancel",
        "targets": [job_id],
        "note": "",
        "outcome": "done",
        "tenant": "default",
        "key_id": "default",
        "user": "",
        "via": "api",
        "session": "",
        "address": "127.0.0.1",
        "user_agent": "curl/8",
        "request_id": "mine",
    }


def test_what_others_than_administrators_do_is_not_kept(
    client: FlaskClient, tokens: Callable[..., dict[str, str]]
) -> None:
    writer = tokens(Scope.JOBS_READ, Scope.JOBS_WRITE)
    client.post(f"/v1/jobs/{ABSENT}/cancel", headers=writer)

    assert listed(client) == []
    assert client.get("/v1/admin/audit", headers=writer).status_code == 403


def test_a_tenant_s_administrator_sees_its_own_and_the_server_s_sees_all(
    client: FlaskClient, tokens: Callable[..., dict[str, str]]
) -> None:
    acme = tokens(Scope.ADMIN, tenant="acme")
    client.post(f"/v1/jobs/{ABSENT}/cancel", headers=acme)
    client.delete(f"/v1/jobs/{ABSENT}", headers=AUTH)

    assert [row["tenant"] for row in listed(client)] == ["default", "acme"]
    assert [row["tenant"] for row in listed(client, "?tenant=acme")] == ["acme"]
    assert [row["action"] for row in listed(client, headers=acme)] == ["job.cancel"]
    theirs = client.get("/v1/admin/audit?tenant=default", headers=acme)
    assert theirs.status_code == 403


def test_a_span_of_time_is_given_in_any_zone(client: FlaskClient) -> None:
    client.delete(f"/v1/jobs/{ABSENT}", headers=AUTH)
    at = datetime.fromisoformat(listed(client)[0]["at"])
    there, later = timezone(timedelta(hours=2)), at + timedelta(milliseconds=1)

    assert len(listed(client, f"?since={quote(at.astimezone(there).isoformat())}")) == 1
    unescaped = at.astimezone(there).isoformat()
    assert len(listed(client, f"?since={unescaped}&until={quote(later.isoformat())}")) == 1
    assert listed(client, f"?until={quote(at.isoformat())}") == []
    assert listed(client, f"?since={quote(later.isoformat())}") == []


def test_it_is_filtered_and_paged(client: FlaskClient) -> None:
    client.post(f"/v1/jobs/{ABSENT}/cancel", headers=AUTH)
    client.delete(f"/v1/jobs/{ABSENT}", headers=AUTH)
    client.post("/v1/models/echo/breaker/reset", headers=AUTH)

    assert [row["targets"] for row in listed(client, "?action=breaker.reset")] == [["echo"]]
    assert len(listed(client, f"?target={ABSENT}")) == 2
    assert len(listed(client, "?by=default")) == 3 and listed(client, "?by=x") == []
    page = client.get("/v1/admin/audit?limit=2", headers=AUTH).json
    rest = listed(client, f"?cursor={page['next_cursor']}")
    assert [row["action"] for row in rest] == [Action.JOB_CANCEL]
    for wrong in ("action=x", "cursor=x", "limit=0", "since=1", "until=2026-02-30T00:00:00Z"):
        answer = client.get(f"/v1/admin/audit?{wrong}", headers=AUTH)
        assert answer.status_code in (400, 422), wrong
