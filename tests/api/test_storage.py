"""A tenant's budget of Redis at the front door, and look-ups of host names that hang."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.services import of
from shared.hooks import Hooks
from shared.settings import Settings, key_secret
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from shared.webhooks.policy import Allowed, UrlPolicy
from tests.api.conftest import PlayedWorker
from tests.receivers import SECRET

BUDGET = 64 * 1024
SCOPES = frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    changed = {"tenant_max_bytes": BUDGET, "webhook_secret": SECRET}
    return Settings(**{**settings.model_dump(), **changed})


class Limited(Hooks):
    """The refusals that observers heard of."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str, str]] = []

    def request_limited(self, method: str, path: str, policy: str) -> None:
        self.found.append((method, path, policy))


def bearer(settings: Settings, store: JobStore, tenant: str, **limits: Any) -> Mapping[str, str]:
    keys = ApiKeys(store.redis, store.keys, Signer(key_secret(settings)))
    _, token = keys.create(Grant(tenant, SCOPES, **limits))
    return {"Authorization": f"Bearer {token}"}


def post(client: FlaskClient, **options: Any) -> TestResponse:
    body = {"model": "echo", "prompt": "x" * options.pop("size", 10), **options.pop("body", {})}
    return client.post(options.pop("path", "/v1/jobs"), json=body, **options)


def test_a_tenant_at_its_budget_is_told_when_and_others_are_taken_in(
    client: FlaskClient, app: Flask, settings: Settings, store: JobStore
) -> None:
    seen = Limited()
    of(app).observers.add(seen)
    full = bearer(settings, store, "full")
    assert post(client, size=30_000, headers=full).status_code == 202

    for path in ("/v1/jobs", "/v1/infer", "/v1/infer/stream"):
        refused = post(client, path=path, headers=full)
        assert (refused.status_code, refused.json["code"]) == (429, "storage_quota_exceeded")
        assert 86_400 <= int(refused.headers["Retry-After"]) < 90_000
        assert seen.found.pop() == ("POST", path, "storage")

    for tenant, limits in (("other", {}), ("full", {"max_bytes": 10 * BUDGET})):
        assert post(client, headers=bearer(settings, store, tenant, **limits)).status_code == 202
    small = bearer(settings, store, "small", max_bytes=100)
    assert [post(client, headers=small).status_code for _ in range(2)] == [202, 429]


def test_stats_show_what_is_stored_and_how_much_may_be(client: FlaskClient) -> None:
    empty = client.get("/v1/stats").json["storage"]
    post(client, size=10_000)
    stored = client.get("/v1/stats").json["storage"]
    assert empty == {"held_bytes": 0, "max_bytes": BUDGET}
    assert 30_000 < stored["held_bytes"] < 33_000, "and the echo that it will write"


def test_room_comes_back_when_ended_jobs_are_deleted(
    client: FlaskClient, worker: PlayedWorker
) -> None:
    made = post(client, size=30_000)
    assert post(client).status_code == 429
    worker.serve("x" * 60_000)
    client.delete(f"/v1/jobs/{made.json['id']}")
    assert post(client).status_code == 202


def test_an_input_that_was_at_fault_is_gone_and_the_record_is_not(
    client: FlaskClient, worker: PlayedWorker, store: JobStore
) -> None:
    job_id = post(client, size=20_000).json["id"]
    worker.fail("invalid_input")
    refused = client.post(f"/v1/jobs/{job_id}/retry")
    assert (refused.status_code, refused.json["code"]) == (409, "input_gone")
    assert client.get(f"/v1/jobs/{job_id}").json["error"]["code"] == "invalid_input"
    assert store.held_bytes("default") < 12_000


@pytest.fixture
def hanging(app: Flask) -> Iterator[threading.Event]:
    """The app's name service does not answer for hosts under `slow.` until the event is set."""
    release = threading.Event()

    def resolve(host: str, port: int) -> Sequence[str]:
        if host.startswith("slow."):
            release.wait()
        return ["93.184.216.34"]

    policy = UrlPolicy(Allowed(), resolve, seconds=0.05, most=8)
    object.__setattr__(of(app), "webhook_urls", policy)
    yield release
    release.set()


def test_names_that_hang_cost_their_tenant_its_share_alone(
    client: FlaskClient,
    app: Flask,
    hanging: threading.Event,
    settings: Settings,
    store: JobStore,
) -> None:
    greedy, modest = (bearer(settings, store, tenant) for tenant in ("greedy", "modest"))
    slow = {"webhook": {"url": "https://slow.example/hook"}}
    fine = {"webhook": {"url": "https://fine.example/hook"}}

    answers = [post(client, body=slow, headers=greedy) for _ in range(5)]

    assert [answer.status_code for answer in answers] == [202] * 4 + [429]
    assert answers[-1].json["code"] == "webhook_lookups_busy"
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert post(client, headers=greedy).status_code == 202, (
        "without a webhook nothing is in its way"
    )
    assert post(client, body=fine, headers=modest).status_code == 202
