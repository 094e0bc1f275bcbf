"""`/v1/webhook_endpoints`: made, listed, changed, tried out and deleted, each tenant's own."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.openai import webhook_trials
from api.services import of
from shared.settings import Settings, key_secret
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from shared.webhooks.endpoints import EVENTS, MOST
from shared.webhooks.outbox import Outbox, Recorded
from tests.conftest import eventually

PATH = "/v1/webhook_endpoints"
NEW = {"url": "https://1.1.1.1/hook", "name": "mine", "event_types": ["response.completed"]}
Meanwhile = Callable[[Callable[[], object]], None]


def made(client: FlaskClient, **changes: Any) -> Any:
    answer = client.post(PATH, json={**NEW, **changes})
    assert answer.status_code == 200, answer.data
    return answer.json


def test_an_endpoint_is_made_read_changed_and_deleted(client: FlaskClient) -> None:
    found = made(client)
    secret, url = found.pop("signing_secret"), f"{PATH}/{found['id']}"

    assert secret.startswith("whsec_") and found["signing_secret_hint"].endswith(secret[-5:])
    assert found["object"] == "webhook_endpoint" and found["event_types"] == NEW["event_types"]
    assert client.get(url).json == found
    changed = client.post(url, json={"name": "other", "event_types": ["batch.failed"]}).json
    assert (changed["name"], changed["event_types"]) == ("other", ["batch.failed"])
    assert changed["url"] == NEW["url"]
    moved = client.post(url, json={"url": "https://1.0.0.1/hook"}).json
    assert moved["url"] == "https://1.0.0.1/hook"
    rotated = client.post(f"{url}/rotate_secret", json={}).json
    assert rotated["signing_secret"] not in (None, secret)
    gone = client.delete(url)
    assert gone.json == {"id": found["id"], "deleted": True, "object": "webhook_endpoint.deleted"}
    for answer in (
        client.get(url),
        client.delete(url),
        client.post(url, json={}),
        client.post(f"{url}/rotate_secret", json={}),
        client.post(f"{url}/test", json={"event_type": "batch.failed"}),
    ):
        assert (answer.status_code, answer.json["error"]["code"]) == (
            404,
            "webhook_endpoint_not_found",
        )


def test_endpoints_are_listed_in_pages(client: FlaskClient) -> None:
    ids = [made(client, name=str(n))["id"] for n in range(3)][::-1]

    first = client.get(f"{PATH}?limit=2").json
    rest = client.get(f"{PATH}?limit=2&after={first['last_id']}").json

    assert [one["id"] for one in first["data"] + rest["data"]] == ids
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert (first["first_id"], rest["last_id"]) == (ids[0], ids[2])
    assert client.get(f"{PATH}?after=we_{'0' * 32}").status_code == 400
    assert "signing_secret" not in first["data"][0]


def test_a_tenant_has_so_many(client: FlaskClient) -> None:
    for _ in range(MOST):
        made(client)

    answer = client.post(PATH, json=NEW)

    assert (answer.status_code, answer.json["error"]["code"]) == (400, "too_many_webhook_endpoints")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"url": "http://1.1.1.1/hook"}, "url"),
        ({"url": "https://127.0.0.1/hook"}, "url"),
        ({"url": "https://169.254.169.254/latest"}, "url"),
        ({"event_types": []}, "event_types"),
        ({"event_types": ["video.completed"]}, "event_types[0]"),
        ({"nmae": "x"}, "nmae"),
    ],
)
def test_what_cannot_be_sent_is_refused(client: FlaskClient, changes: Any, param: str) -> None:
    for path in (PATH, f"{PATH}/{made(client)['id']}"):
        answer = client.post(path, json={**NEW, **changes})
        assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


def test_endpoints_of_another_tenant_do_not_exist(
    client: FlaskClient, anonymous: FlaskClient, settings: Settings, store: JobStore
) -> None:
    keys = ApiKeys(store.redis, store.keys, Signer(key_secret(settings)))
    _, token = keys.create(Grant("other", frozenset({Scope.JOBS_READ})))
    theirs = {"Authorization": f"Bearer {token}"}
    found = made(client)

    assert anonymous.get(PATH, headers=theirs).json["data"] == []
    assert anonymous.get(f"{PATH}/{found['id']}", headers=theirs).status_code == 404
    assert anonymous.post(PATH, json=NEW, headers=theirs).status_code == 403


def test_a_trial_tells_what_the_endpoint_answered(
    client: FlaskClient, store: JobStore, meanwhile: Meanwhile
) -> None:
    found = made(client)

    def deliver() -> None:
        outbox = Outbox(store)
        claimed: list[Any] = []
        eventually(lambda: claimed.extend(outbox.claim(1, 30.0)) or claimed, what="a message")
        outbox.record(claimed[0], Recorded("dead", status=418, fault="status", well=True))

    meanwhile(deliver)

    answer = client.post(f"{PATH}/{found['id']}/test", json={"event_type": "batch.failed"})

    assert answer.json == {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": found["id"],
        "event_type": "batch.failed",
        "status_code": 418,
        "success": True,
    }


def test_a_trial_without_an_answer_says_so(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_trials, "TEST_SECONDS", 0.2)
    found = made(client)

    answer = client.post(f"{PATH}/{found['id']}/test", json={"event_type": "batch.failed"})

    assert (answer.status_code, answer.json["error"]["code"]) == (400, "webhook_unreachable")


def test_the_types_of_events_are_listed(client: FlaskClient) -> None:
    assert client.get("/v1/webhook_event_types").json == {"object": "list", "data": list(EVENTS)}


def test_endpoints_need_no_secret_of_the_servers(client: FlaskClient) -> None:
    """Each has its own, so WEBHOOK_HMAC_SECRET need not be set."""
    services = of(client.application)
    assert not services.settings.keyring
    found = made(client)
    assert services.webhook_endpoints.keyring("default", found["id"])


def test_a_path_that_is_not_plain_is_refused_in_openais_words(client: FlaskClient) -> None:
    answer = client.get(f"{PATH}/%C2%84")

    assert (answer.status_code, answer.content_type) == (400, "application/json")
    assert answer.json["error"]["code"] == "bad_request"
