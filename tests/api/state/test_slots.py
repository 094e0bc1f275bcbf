"""Requests that are open at once: one client never takes every place of a process."""

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.services import of
from api.state.slots import Slots
from shared.domain.errors import RateLimited
from shared.settings import Settings, key_secret
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore

ECHO = {"model": "echo", "prompt": "x"}


def test_a_client_holds_no_more_than_it_leaves_free() -> None:
    slots = Slots(most=5)
    mine = [slots.enter("a") for _ in range(3)]
    with pytest.raises(RateLimited, match="3 of your requests"):
        slots.enter("a")
    theirs = slots.enter("b")
    with pytest.raises(RateLimited):
        slots.enter("b")
    last = slots.enter("c")

    for slot in (*mine, theirs, last, *mine):
        slot.leave()
    assert [slots.enter("a") for _ in range(3)], "each was left once and wholly"


def test_streams_of_one_client_leave_room_to_others(
    app: Flask, client: FlaskClient, settings: Settings, store: JobStore
) -> None:
    of(app).slots.most = 4
    keys = ApiKeys(store.redis, store.keys, Signer(key_secret(settings)))
    _, token = keys.create(Grant("other", frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE})))
    other = {"Authorization": f"Bearer {token}"}
    events = client.post("/v1/jobs", json=ECHO, buffered=True).json["urls"]["get"] + "/events"

    streams = [client.get(events, buffered=False) for _ in range(2)]
    refused = client.get("/v1/jobs", buffered=True)
    assert [stream.status_code for stream in streams] == [200, 200]
    assert (refused.status_code, refused.json["code"]) == (429, "rate_limited")
    assert refused.headers["Retry-After"] == "1"
    assert client.get("/health").status_code == 200
    assert client.get("/v1/jobs", headers=other, buffered=True).status_code == 200

    streams[0].close()
    for path in ("/v1/jobs", "/v1/jobs?limit=0", "/v1/jobs/unknown", "/v1/models"):
        for _ in range(3):
            client.get(path, buffered=True)
            client.head(path, buffered=True)
    assert client.get("/v1/jobs").status_code == 200, "whatever was answered is over"
    streams[1].close()
