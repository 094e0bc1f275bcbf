"""Webhooks at the front door: who may be told, signed requests for inference, and replays."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from standardwebhooks import Webhook
from werkzeug.test import TestResponse

from api.app import create_app
from api.services import of
from shared.settings import Settings
from shared.store.jobs import JobStore
from shared.webhooks.outbox import Recorded
from tests.api.conftest import AUTH, PlayedWorker, Rings
from tests.receivers import SECRET

HOOK = "https://127.0.0.1:9000/hook"
NEXT = SECRET.replace("YS", "YT")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With two secrets, as during a rotation, and a receiver on this machine allowed."""
    changed = {
        "webhook_secret": f"{NEXT},{SECRET}",
        "webhook_allow": "127.0.0.1, receiver.internal",
        "webhook_max_pending": 7,
    }
    return Settings(**{**settings.model_dump(), **changed})


@pytest.fixture
def plain(settings: Settings, store: JobStore, rings: Rings) -> Flask:
    """An app without a secret."""
    without = settings.model_copy(update={"webhook_secret": None})
    return create_app(without, store=store, ring=rings)


def ask(client: FlaskClient, webhook: Any, path: str = "/v1/jobs") -> TestResponse:
    return client.post(path, json={"model": "echo", "prompt": "hi", "webhook": webhook})


def message(
    data: Any = None,
    *,
    kind: str = "inference.requested",
    name: str = "msg_1",
    secret: str = SECRET,
    at: float = 0.0,
    body: bytes | None = None,
) -> dict[str, Any]:
    """A signed message as keyword arguments of a test client's call."""
    if body is None:
        data = {"model": "echo", "prompt": "hi"} if data is None else data
        body = json.dumps({"type": kind, "data": data}).encode()
    moment = int(time.time() + at)
    signature = Webhook(secret).sign(name, datetime.fromtimestamp(moment, UTC), body.decode())
    return {
        "data": body,
        "content_type": "application/json",
        "headers": {
            "webhook-id": name,
            "webhook-timestamp": str(moment),
            "webhook-signature": signature,
        },
    }


def ingest(client: FlaskClient, **options: Any) -> TestResponse:
    return client.post("/webhooks/ingest", **message(**options))


# -- out


def test_a_job_with_a_webhook_lists_its_deliveries(
    client: FlaskClient, worker: PlayedWorker
) -> None:
    job_id = ask(client, {"url": HOOK}).json["id"]
    path = f"/v1/jobs/{job_id}/deliveries"
    assert client.get(path).json == {"data": []}
    worker.serve("a")

    listed = client.get(path).json["data"]
    assert [delivery["type"] for delivery in listed] == ["job.started", "job.completed"]
    assert {delivery["url"] for delivery in listed} == {HOOK}
    assert {delivery["status"] for delivery in listed} == {"pending"}
    replayed = client.post(f"{path}/replay")
    assert replayed.status_code == 202
    assert {d["id"] for d in replayed.json["data"]} == {d["id"] for d in listed}


def test_dead_deliveries_are_listed(app: Flask, client: FlaskClient, worker: PlayedWorker) -> None:
    job_id = ask(client, {"url": HOOK, "events": ["completed"]}).json["id"]
    worker.serve("a")
    outbox = of(app).outbox
    [sent] = outbox.claim(5, 30)
    outbox.record(sent, Recorded("dead", status=410, fault="status", well=True))

    [dead] = client.get("/v1/dead-deliveries").json["data"]
    assert (dead["job_id"], dead["status"], dead["response_status"]) == (job_id, "dead", 410)
    client.post(f"/v1/jobs/{job_id}/deliveries/replay")
    assert client.get("/v1/dead-deliveries").json == {"data": []}
    assert client.get("/v1/dead-deliveries?limit=0").json["code"] == "invalid_parameter"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/infer", "/v1/infer/stream"])
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2/",
        "https://169.254.169.254/latest/meta-data",
        "https://0x7f.1/",
        "https://receiver.internal@10.0.0.1/",
        "ftp://receiver.internal/",
    ],
)
def test_a_url_that_leads_inside_is_refused(
    client: FlaskClient, rings: Rings, path: str, url: str
) -> None:
    refused = ask(client, {"url": url}, path)
    assert (refused.status_code, refused.json["code"]) == (422, "webhook_refused")
    assert refused.json["errors"][0]["loc"] == ["webhook", "url"]
    assert rings.models == []


@pytest.mark.parametrize(
    "webhook",
    [
        "https://example.com",
        {},
        {"url": 1},
        {"url": ""},
        {"url": HOOK, "events": []},
        {"url": HOOK, "events": ["deleted"]},
        {"url": HOOK, "events": "deleted"},
        {"url": HOOK, "secret": "x"},
    ],
)
def test_a_webhook_of_another_shape_is_refused(client: FlaskClient, webhook: Any) -> None:
    refused = ask(client, webhook)
    assert (refused.status_code, refused.json["code"]) == (422, "invalid_request")
    assert refused.json["errors"][0]["loc"][0] == "webhook"


def test_without_a_secret_nobody_can_be_told(plain: Flask) -> None:
    refused = ask(plain.test_client(), {"url": HOOK}).json
    assert refused["code"] == "unauthorized"
    client = plain.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = AUTH["Authorization"]
    refused = ask(client, {"url": HOOK})
    assert (refused.status_code, refused.json["code"]) == (422, "webhook_secret_missing")
    assert "WEBHOOK_HMAC_SECRET" in refused.json["detail"]
    assert ask(client, None).status_code == 202


def test_a_full_backlog_takes_no_more_webhooks(client: FlaskClient, worker: PlayedWorker) -> None:
    for _ in range(2):
        ask(client, {"url": HOOK})
        worker.serve("a")
    refused = ask(client, {"url": HOOK})
    assert (refused.status_code, refused.json["code"]) == (503, "webhook_backlog_full")
    assert int(refused.headers["Retry-After"]) > 0
    assert ask(client, None).status_code == 202, "jobs without one go on"


def test_the_webhook_is_part_of_what_an_idempotency_key_names(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "k"}
    body = {"model": "echo", "prompt": "hi", "webhook": {"url": HOOK}}
    assert client.post("/v1/jobs", json=body, headers=headers).status_code == 202
    assert client.post("/v1/jobs", json=body, headers=headers).status_code == 200
    del body["webhook"]
    assert (
        client.post("/v1/jobs", json=body, headers=headers).json["code"] == "idempotency_mismatch"
    )


def test_deliveries_of_no_job(client: FlaskClient, anonymous: FlaskClient) -> None:
    path = f"/v1/jobs/job_{'0' * 32}/deliveries"
    assert client.get(path).json["code"] == "job_not_found"
    assert client.post(f"{path}/replay").json["code"] == "job_not_found"
    for method, at in (("GET", path), ("POST", f"{path}/replay"), ("GET", "/v1/dead-deliveries")):
        assert anonymous.open(at, method=method).status_code == 401


# -- in


@pytest.mark.parametrize("secret", [NEXT, SECRET])
def test_a_signed_request_makes_a_job_without_a_token(
    anonymous: FlaskClient, client: FlaskClient, worker: PlayedWorker, rings: Rings, secret: str
) -> None:
    made = ingest(anonymous, data={"model": "echo", "prompt": "from afar"}, secret=secret)
    assert made.status_code == 202 and rings.models == ["echo"]
    assert made.headers["Location"].endswith(f"/v1/jobs/{made.json['id']}")
    assert json.loads(worker.serve("a").request)["content"] == "from afar"
    assert client.get(f"/v1/jobs/{made.json['id']}").json["status"] == "succeeded"


def test_a_repeated_message_is_the_same_job(anonymous: FlaskClient, store: JobStore) -> None:
    made = ingest(anonymous)
    again = ingest(anonymous, at=2)
    other = ingest(anonymous, name="msg_2")
    assert (made.status_code, again.status_code, other.status_code) == (202, 200, 202)
    assert again.json["id"] == made.json["id"] != other.json["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert store.status("echo").waiting == 2


def test_a_message_id_is_no_idempotency_key(anonymous: FlaskClient, client: FlaskClient) -> None:
    made = ingest(anonymous, name="shared")
    body = {"model": "echo", "prompt": "hi"}
    job = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "shared"})
    assert job.status_code == 202 and job.json["id"] != made.json["id"]


@pytest.mark.parametrize(
    "change",
    [
        {"secret": SECRET.replace("YS", "YX")},
        {"at": -330},
        {"at": 330},
    ],
)
def test_a_bad_signature_or_a_stale_timestamp_is_401(
    anonymous: FlaskClient, rings: Rings, change: dict[str, Any]
) -> None:
    refused = ingest(anonymous, **change)
    assert (refused.status_code, refused.json["code"]) == (401, "invalid_signature")
    assert rings.models == []


@pytest.mark.parametrize("header", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_every_header_is_needed_and_signed(anonymous: FlaskClient, header: str) -> None:
    for value in (None, "x"):
        call = message()
        call["headers"].pop(header)
        if value is not None:
            call["headers"][header] = value
        assert anonymous.post("/webhooks/ingest", **call).status_code == 401


def test_the_raw_body_is_what_is_signed(anonymous: FlaskClient) -> None:
    call = message()
    call["data"] = json.dumps(json.loads(call["data"]), indent=1).encode()
    assert anonymous.post("/webhooks/ingest", **call).status_code == 401


def test_a_token_does_not_stand_in_for_a_signature(client: FlaskClient) -> None:
    body = {"type": "inference.requested", "data": {"model": "echo", "prompt": "hi"}}
    assert client.post("/webhooks/ingest", json=body).status_code == 401


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({"kind": "invoice.paid"}, 422, "unknown_event_type"),
        ({"body": b"{}"}, 422, "unknown_event_type"),
        ({"body": b'{"type": "inference.requested"}'}, 422, "invalid_request"),
        ({"body": b'{"type": "inference.requested", "data": [], "x": 1}'}, 422, "invalid_request"),
        ({"body": b"[1]"}, 422, "invalid_request"),
        ({"body": b"{"}, 400, "malformed_json"),
        ({"data": {"model": "echo"}}, 422, "invalid_request"),
        ({"data": {"model": "none", "prompt": "x"}}, 404, "unknown_model"),
        (
            {"data": {"model": "echo", "prompt": "x", "webhook": {"url": "https://10.0.0.1/"}}},
            422,
            "webhook_refused",
        ),
    ],
)
def test_a_signed_message_that_makes_no_sense(
    anonymous: FlaskClient, options: dict[str, Any], status: int, code: str
) -> None:
    refused = ingest(anonymous, **options)
    assert (refused.status_code, refused.json["code"]) == (status, code)


def test_a_timestamp_in_the_envelope_is_fine(anonymous: FlaskClient) -> None:
    event = {
        "type": "inference.requested",
        "timestamp": "2026-01-01T00:00:00Z",
        "data": {"model": "echo", "prompt": "x"},
    }
    assert ingest(anonymous, body=json.dumps(event).encode()).status_code == 202


class Unread:
    """A body that fails the test when somebody reads it."""

    def read(self, *_: object) -> bytes:
        raise AssertionError("the body was read")


def unread(client: FlaskClient, headers: dict[str, str], length: int = 10**6) -> TestResponse:
    """The answer to a message whose body nobody may read."""
    environ = {"wsgi.input": Unread(), "CONTENT_LENGTH": str(length)}
    return client.post("/webhooks/ingest", headers=headers, environ_overrides=environ)


def test_what_a_message_says_of_itself_is_judged_before_its_body_is_read(
    anonymous: FlaskClient, settings: Settings
) -> None:
    good = message()["headers"]
    for headers in (
        {},
        {**good, "webhook-id": ""},
        {**good, "webhook-timestamp": "soon"},
        {**good, "webhook-timestamp": "²"},
        {**good, "webhook-signature": " "},
        message(at=-400)["headers"],
    ):
        refused = unread(anonymous, {**headers, "Content-Type": "application/json"})
        assert (refused.status_code, refused.json["code"]) == (401, "invalid_signature")
    assert unread(anonymous, {**good, "Content-Type": "text/plain"}).status_code == 415
    large = settings.webhook_max_body_bytes + 1
    refused = unread(anonymous, {**good, "Content-Type": "application/json"}, large)
    assert (refused.status_code, refused.json["code"]) == (413, "body_too_large")


def test_a_messages_body_has_a_limit_of_its_own(
    settings: Settings, store: JobStore, rings: Rings
) -> None:
    less = settings.model_copy(update={"webhook_max_body_bytes": 2048})
    client = create_app(less, store=store, ring=rings).test_client()

    assert ingest(client, data={"model": "echo", "prompt": "x" * 1000}).status_code == 202
    refused = ingest(client, data={"model": "echo", "prompt": "x" * 3000})
    assert refused.json["code"] == "body_too_large" and "2048" in refused.json["detail"]


def test_without_a_secret_nothing_is_taken_in(plain: Flask) -> None:
    refused = unread(plain.test_client(), message()["headers"])
    assert (refused.status_code, refused.json["code"]) == (404, "ingest_not_configured")
    assert "WEBHOOK_HMAC_SECRET" in refused.json["detail"]


def limited(settings: Settings, store: JobStore, rings: Rings) -> Flask:
    """An app that takes two messages a minute."""
    return create_app(settings.model_copy(update={"rate_rpm": 2}), store=store, ring=rings)


def test_messages_are_counted_by_their_address_and_signed_ones_together(
    settings: Settings, store: JobStore, rings: Rings
) -> None:
    client = limited(settings, store, rings).test_client()
    strangers = [ingest(client, at=-1000).status_code for _ in range(3)]
    client.environ_base["REMOTE_ADDR"] = "10.0.0.1"
    taken = [ingest(client, name="msg_1"), ingest(client, name="msg_2")]
    client.environ_base["REMOTE_ADDR"] = "10.0.0.2"
    refused = ingest(client, name="msg_3")

    assert strangers == [401, 401, 429]
    assert [answer.status_code for answer in taken] == [202, 202]
    assert taken[0].headers["RateLimit"].count("submit") == 1
    assert refused.status_code == 429, "all who know a secret are one client"
    assert int(refused.headers["Retry-After"]) > 0


def test_an_address_that_has_used_up_its_limit_is_not_read(
    settings: Settings, store: JobStore, rings: Rings
) -> None:
    client = limited(settings, store, rings).test_client()
    for _ in range(2):
        ingest(client, at=-1000)

    refused = unread(client, {**message()["headers"], "Content-Type": "application/json"})

    assert refused.status_code == 429 and "Retry-After" in refused.headers


def test_a_message_takes_a_slot_of_its_address_while_it_is_read(
    app: Flask, anonymous: FlaskClient
) -> None:
    here = of(app)
    here.slots.most = 1
    held = here.slots.enter("ip:127.0.0.1")

    assert unread(anonymous, message()["headers"]).status_code == 429
    held.leave()
    assert ingest(anonymous).status_code == 202
    assert here.slots.enter("ip:127.0.0.1"), "and leaves it"


@pytest.mark.parametrize("key", ["webhook msg_1", "ingest msg_1", "msg_1"])
def test_no_idempotency_key_of_a_caller_is_a_message(
    anonymous: FlaskClient, client: FlaskClient, key: str
) -> None:
    """Both belong to the default tenant."""
    body = {"model": "echo", "prompt": "hi"}
    taken = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})

    made = ingest(anonymous, name="msg_1")

    assert (taken.status_code, made.status_code) == (202, 202)
    assert taken.json["id"] != made.json["id"]
