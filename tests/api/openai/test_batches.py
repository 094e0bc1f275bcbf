"""OpenAI's batches over HTTP: what is taken in, told, listed. Their steps: tests/api/batches."""

import time
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.services import of
from shared.domain.batches import WINDOW_SECONDS
from shared.domain.files import File, new_file_id
from shared.settings import Settings
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.files import Room
from shared.store.jobs import JobStore
from tests.api.conftest import TOKEN

ROOM = Room(2**50, 10**6, 2**50)


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(
        update={"file_storage": str(tmp_path / "files"), "batch_most_open": 4}
    )


def an_input(
    app: Flask, *, purpose: str = "batch", size: int = 100, tenant: str = "default"
) -> str:
    """A file that is written down and has no content: nothing here looks at it."""
    now = int(time.time())
    file = File(new_file_id(), tenant, purpose, "input.jsonl", size, now, now + 3600)
    of(app).files.create(file, ROOM)
    return file.id


def post(client: FlaskClient, file_id: str, headers: Any = None, **members: Any) -> Any:
    body = {"input_file_id": file_id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
    return client.post("/v1/batches", json={**body, **members}, headers=headers)


def test_a_batch_is_told_with_all_that_clients_look_at(app: Flask, client: FlaskClient) -> None:
    file_id = an_input(app)

    made = post(client, file_id, metadata={"of": "tonight"}).get_json()

    assert made["id"].startswith("batch_")
    assert made["object"] == "batch"
    assert made["status"] == "validating"
    assert made["input_file_id"] == file_id
    assert made["expires_at"] - made["created_at"] == WINDOW_SECONDS
    assert made["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert made["metadata"] == {"of": "tonight"}
    for name in ("errors", "output_file_id", "error_file_id", "completed_at", "cancelled_at"):
        assert made[name] is None
    assert client.get(f"/v1/batches/{made['id']}").get_json() == made


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"endpoint": "/v1/images"}, "endpoint"),
        ({"completion_window": "48h"}, "completion_window"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, None),
        ({"metadata": {"a": 1}}, None),
        ({"unheard": 1}, "unheard"),
    ],
)
def test_what_is_no_batch_is_refused(
    app: Flask, client: FlaskClient, members: dict[str, Any], param: str | None
) -> None:
    answer = post(client, an_input(app), **members)

    assert answer.status_code == 400
    assert param in (None, answer.get_json()["error"]["param"])


def test_a_file_that_is_no_input_of_a_batch_is_refused(app: Flask, client: FlaskClient) -> None:
    others = an_input(app, purpose="vision"), an_input(app, size=200 * 1024 * 1024 + 1)

    for file_id in others:
        answer = post(client, file_id)
        assert answer.status_code == 400
        assert answer.get_json()["error"]["param"] == "input_file_id"
    assert post(client, new_file_id()).get_json()["error"]["code"] == "file_not_found"
    assert post(client, an_input(app, tenant="other")).status_code == 404


def test_a_retry_joins_the_batch_that_its_first_try_made(app: Flask, client: FlaskClient) -> None:
    file_id = an_input(app)
    retry = {"x-stainless-retry-count": "1"}

    first = post(client, file_id).get_json()["id"]
    again = post(client, file_id, retry).get_json()["id"]
    other = post(client, file_id).get_json()["id"]
    last = post(client, file_id, retry).get_json()["id"]
    different = post(client, file_id, retry, metadata={"a": "b"}).get_json()["id"]

    assert first == again
    assert other == last != first
    assert different not in (first, other)


def test_a_tenant_has_so_many_open_batches(app: Flask, client: FlaskClient) -> None:
    file_id = an_input(app)
    for _ in range(4):
        assert post(client, file_id).status_code == 200

    answer = post(client, file_id)

    assert answer.status_code == 429
    assert answer.get_json()["error"]["code"] == "too_many_batches"


def test_batches_are_listed_newest_first_in_pages(app: Flask, client: FlaskClient) -> None:
    file_id = an_input(app)
    made = []
    for _ in range(3):
        made.append(post(client, file_id).get_json()["id"])
        time.sleep(0.002)  # Ids sort by the millisecond.

    first = client.get("/v1/batches?limit=2").get_json()
    rest = client.get(f"/v1/batches?limit=2&after={first['last_id']}").get_json()

    assert [one["id"] for one in first["data"] + rest["data"]] == made[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert client.get("/v1/batches?after=nothing").status_code == 400


def test_a_batch_of_another_tenant_is_none(
    app: Flask, client: FlaskClient, anonymous: FlaskClient, store: JobStore
) -> None:
    made = post(client, an_input(app)).get_json()
    grant = Grant("other", frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE}))
    _, token = ApiKeys(store.redis, store.keys, Signer(TOKEN)).create(grant)
    other = {"Authorization": f"Bearer {token}"}

    url = f"/v1/batches/{made['id']}"

    assert anonymous.get(url, headers=other).status_code == 404
    assert anonymous.post(f"{url}/cancel", headers=other).status_code == 404
    assert anonymous.get("/v1/batches", headers=other).get_json()["data"] == []
    assert client.get(url).get_json()["status"] == "validating"
