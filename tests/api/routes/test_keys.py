"""API keys over HTTP: listed, read and changed by the server's administrator, never made or shown."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.settings import Settings, key_secret
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKey, ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH

GRANT = Grant("acme", frozenset({Scope.JOBS_READ}), rpm=5, note="reports")


@pytest.fixture
def keys(settings: Settings, store: JobStore) -> ApiKeys:
    return ApiKeys(store.redis, store.keys, Signer(key_secret(settings)))


@pytest.fixture
def key(keys: ApiKeys) -> ApiKey:
    return keys.create(GRANT)[0]


@pytest.fixture
def change(client: FlaskClient, key: ApiKey) -> Callable[..., Any]:
    def changed(**members: Any) -> Any:
        return client.patch(f"/v1/admin/keys/{key.id}", json=members)

    return changed


def test_a_key_is_told_without_its_token(client: FlaskClient, key: ApiKey) -> None:
    told = client.get(f"/v1/admin/keys/{key.id}").json

    assert told["id"] == key.id and told["object"] == "api_key" and told["state"] == "active"
    assert (told["tenant"], told["scopes"], told["rpm"]) == ("acme", ["jobs:read"], 5)
    assert (told["rph"], told["expires_at"], told["note"]) == (None, None, "reports")
    assert client.get("/v1/admin/keys").json["data"] == [told]
    assert key.digest.hex() not in str(told) and "token" not in told
    assert client.get(f"/v1/admin/keys/{'0' * 16}").json["code"] == "api_key_not_found"


def test_keys_are_listed_by_tenant_a_page_at_a_time(client: FlaskClient, keys: ApiKeys) -> None:
    made = [keys.create(Grant(tenant, GRANT.scopes))[0].id for tenant in ("a", "b", "a", "a")]

    page = client.get("/v1/admin/keys?limit=2&tenant=a").json
    assert [row["id"] for row in page["data"]] == [made[3], made[2]]
    assert page["next_cursor"] == made[2]
    rest = client.get(f"/v1/admin/keys?limit=2&tenant=a&cursor={made[2]}").json
    assert [row["id"] for row in rest["data"]] == [made[0]] and rest["next_cursor"] is None
    assert client.get("/v1/admin/keys?cursor=x").json["code"] == "invalid_cursor"


def test_a_key_is_changed_and_the_log_says_what_of_it(
    client: FlaskClient, keys: ApiKeys, key: ApiKey, change: Callable[..., Any]
) -> None:
    answer = change(rpm=None, rph=100, max_bytes=0, expires_at="2027-12-31T12:00:00+02:00")

    assert answer.status_code == 200
    told = answer.json
    assert (told["rpm"], told["rph"], told["max_bytes"]) == (None, 100, 0)
    assert (told["expires_at"], told["note"]) == ("2027-12-31T10:00:00.000Z", "reports")
    assert client.get(f"/v1/admin/keys/{key.id}").json == told
    assert change(expires_at=None, note=None).json["expires_at"] is None
    last, first = client.get("/v1/admin/audit?action=key.update").json["data"]
    assert first["targets"] == [key.id] and first["outcome"] == "done"
    assert first["note"] == (
        "acme: rpm 5 to none, rph none to 100, max_bytes none to 0, "
        "expires none to 2027-12-31T10:00:00.000Z"
    )
    assert "note reports to none" in last["note"]
    assert change().json["rph"] == 100 and change(rph=7.0).json["rph"] == 7


def test_what_does_not_fit_is_refused_and_changes_nothing(
    keys: ApiKeys, key: ApiKey, change: Callable[..., Any]
) -> None:
    wrong: list[tuple[str, Any]] = [
        *(("rpm", 0), ("rpm", "5"), ("rph", 2**53), ("max_queued", 1.5), ("max_bytes", -1)),
        *(("expires_at", "tomorrow"), ("expires_at", "2020-01-01T00:00:00Z"), ("expires_at", 5)),
        *(("expires_at", "2099-01-01T00:00:00Z"), ("note", "x" * 201), ("note", "two\nlines")),
        *(("tenant", "other"), ("scopes", ["admin"])),
    ]
    for name, value in wrong:
        answer = change(**{name: value})
        assert answer.status_code == 422, (name, value)
        assert name.removesuffix("_at") in answer.json["detail"], (name, value)
    assert keys.find(key.id) == key


def test_what_has_ended_or_is_not_there_cannot_be_changed(
    client: FlaskClient, keys: ApiKeys, key: ApiKey, change: Callable[..., Any]
) -> None:
    keys.revoke(key.id)

    assert change(rpm=1).status_code == 409 and change(rpm=1).json["code"] == "api_key_ended"
    gone = client.patch(f"/v1/admin/keys/{'0' * 16}", json={"rpm": 1})
    assert (gone.status_code, gone.json["code"]) == (404, "api_key_not_found")


def test_nobody_but_the_server_s_administrator_sees_or_changes_keys(
    client: FlaskClient, keys: ApiKeys, key: ApiKey
) -> None:
    for grant in (Grant("acme", frozenset({Scope.ADMIN})), Grant("default", GRANT.scopes)):
        header = {"Authorization": f"Bearer {keys.create(grant)[1]}"}
        path = f"/v1/admin/keys/{key.id}"
        assert client.get("/v1/admin/keys", headers=header).status_code == 403
        assert client.get(path, headers=header).status_code == 403
        assert client.patch(path, json={"rpm": 1}, headers=header).status_code == 403
    assert keys.find(key.id) == key
    assert client.get("/v1/admin/keys", headers=AUTH).status_code == 200
