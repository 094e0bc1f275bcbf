"""OpenAI's files over HTTP: uploads in pieces, bounds, tenants."""

import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from api.services import of
from api.state.uploads import MOST
from shared.settings import Settings
from shared.store.api_key_tokens import Signer
from shared.store.api_keys import ApiKeys, Grant, Scope
from shared.store.jobs import JobStore
from tests.api.conftest import AUTH, TOKEN, Rings, Server


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(
        update={
            "file_storage": str(tmp_path / "files"),
            "file_max_bytes": 8 * 1024 * 1024,
            "file_tenant_bytes": 20 * 1024 * 1024,
        }
    )


def upload(client: FlaskClient, content: bytes = b"a line\n", **fields: Any) -> Any:
    form = {"purpose": "batch", "file": (io.BytesIO(content), "input.jsonl"), **fields}
    data = {name: value for name, value in form.items() if value is not None}
    return client.post("/v1/files", data=data, content_type="multipart/form-data")


def test_a_file_is_uploaded_read_and_deleted(client: FlaskClient, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000

    made = upload(client, content).get_json()

    assert made["id"].startswith("file-")
    assert made["object"] == "file"
    assert made["bytes"] == len(content)
    assert (made["filename"], made["purpose"]) == ("input.jsonl", "batch")
    assert made["status"] == "processed"
    assert made["expires_at"] - made["created_at"] == 30 * 24 * 3600
    url = f"/v1/files/{made['id']}"
    assert client.get(url).get_json() == made
    answer = client.get(f"{url}/content")
    assert answer.data == content
    assert answer.headers["Content-Disposition"] == 'attachment; filename="input.jsonl"'
    assert client.get("/v1/files").get_json()["data"] == [made]

    assert client.delete(url).get_json() == {"id": made["id"], "object": "file", "deleted": True}
    assert client.get(url).status_code == 404
    assert client.get(f"{url}/content").get_json()["error"]["code"] == "file_not_found"
    assert not [path for path in (tmp_path / "files").rglob("*") if path.is_file()]


def test_a_file_lives_as_long_as_was_asked(client: FlaskClient) -> None:
    made = upload(
        client, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    ).get_json()

    assert made["expires_at"] - made["created_at"] == 3600


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": None}, "purpose"),
        ({"purpose": "batch_output"}, "purpose"),
        ({"purpose": "unheard"}, "purpose"),
        ({"file": None}, "file"),
        ({"expires_after[anchor]": "created_at"}, "expires_after"),
        ({"expires_after[anchor]": "x", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
        (
            {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"},
            "expires_after[seconds]",
        ),
        ({"colour": "green"}, "colour"),
    ],
)
def test_a_form_that_says_something_else_is_refused_and_nothing_stays(
    client: FlaskClient, tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    answer = upload(client, **fields)

    assert answer.status_code == 400
    assert answer.get_json()["error"]["param"] == param
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_over_the_limit_is_refused_whether_or_not_its_length_is_told(
    client: FlaskClient, tmp_path: Path
) -> None:
    answer = upload(client, b"x" * (8 * 1024 * 1024 + 1))

    assert answer.status_code == 413
    assert answer.get_json()["error"]["code"] == "body_too_large"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x\r\n",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhalf',
        b"--x\r\nNothing: here\r\n\r\n\r\n--x--\r\n",
        b"--x\r\nContent-Disposition: form-data\r\n\r\nv\r\n--x--\r\n",
        b"--x--\r\n",
        b"no boundary at all",
    ],
)
def test_a_broken_form_is_refused(client: FlaskClient, tmp_path: Path, body: bytes) -> None:
    answer = client.post("/v1/files", data=body, content_type="multipart/form-data; boundary=x")

    assert answer.status_code == 400
    assert answer.get_json()["error"]["type"] == "invalid_request_error"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_json_is_no_form(client: FlaskClient) -> None:
    assert client.post("/v1/files", json={"purpose": "batch"}).status_code == 415


def test_files_over_a_tenants_room_are_refused_before_they_are_sent(client: FlaskClient) -> None:
    for _ in range(2):
        assert upload(client, b"x" * (8 * 1024 * 1024)).status_code == 200

    answer = upload(client, b"x" * (5 * 1024 * 1024))

    assert answer.status_code == 429
    assert answer.get_json()["error"]["code"] == "file_quota_exceeded"
    assert "Delete files" in answer.get_json()["error"]["message"]


def test_a_process_takes_in_so_many_files_at_once(app: Flask, client: FlaskClient) -> None:
    uploads = of(app).uploads
    held = [uploads.place() for _ in range(MOST)]
    for place in held:
        place.__enter__()

    refused = upload(client)
    held[0].__exit__(None, None, None)

    assert refused.get_json()["error"]["code"] == "uploads_busy"
    assert refused.headers["Retry-After"]
    assert upload(client).status_code == 200


def test_a_file_of_another_tenant_is_none(
    store: JobStore, client: FlaskClient, anonymous: FlaskClient
) -> None:
    made = upload(client).get_json()
    grant = Grant("other", frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE}))
    _, token = ApiKeys(store.redis, store.keys, Signer(TOKEN)).create(grant)
    other = {"Authorization": f"Bearer {token}"}

    for method, path in (("get", ""), ("get", "/content"), ("delete", "")):
        answer = getattr(anonymous, method)(f"/v1/files/{made['id']}{path}", headers=other)
        assert answer.status_code == 404, (method, path)
    assert anonymous.get("/v1/files", headers=other).get_json()["data"] == []
    assert client.get(f"/v1/files/{made['id']}/content").data == b"a line\n"


def test_names_are_told_without_paths_and_without_what_a_terminal_or_a_header_would_act_on(
    client: FlaskClient,
) -> None:
    form = {"purpose": "user_data", "file": (io.BytesIO(b"x"), '../../etc/"pass\twd\x1b[2J;é')}

    made = client.post("/v1/files", data=form).get_json()

    assert "/" not in made["filename"]
    assert made["filename"].isprintable()
    told = client.get(f"/v1/files/{made['id']}/content").headers["Content-Disposition"]
    assert told.count('"') == 2
    assert told.isascii()


def test_pages_say_whether_there_is_more(client: FlaskClient) -> None:
    ids = [upload(client).get_json()["id"] for _ in range(3)]

    first = client.get("/v1/files?limit=2").get_json()
    rest = client.get(f"/v1/files?limit=2&after={first['last_id']}").get_json()

    assert sorted(one["id"] for one in first["data"] + rest["data"]) == sorted(ids)
    assert (first["has_more"], rest["has_more"]) == (True, False)
    assert client.get("/v1/files?order=sideways").status_code == 400


def test_an_upload_is_never_whole_in_memory(client: FlaskClient) -> None:
    content = b"x" * (8 * 1024 * 1024)
    body = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        + content
        + b"\r\n--b--\r\n"
    )
    kwargs: dict[str, Any] = {
        "input_stream": io.BytesIO(body),
        "content_length": len(body),
        "content_type": "multipart/form-data; boundary=b",
    }

    tracemalloc.start()
    made = client.post("/v1/files", **kwargs).get_json()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert made["bytes"] == len(content)
    assert most < 5 * 1024 * 1024


@pytest.fixture
def away(settings: Settings, store: JobStore, tmp_path: Path) -> Iterator[FlaskClient]:
    (tmp_path / "blocked").write_text("")
    blocked = settings.model_copy(update={"file_storage": str(tmp_path / "blocked")})
    app = create_app(blocked, store=store, ring=Rings())
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = AUTH["Authorization"]
    yield client
    of(app).close()


def test_a_storage_that_is_away_is_told_as_one_and_may_be_tried_again(away: FlaskClient) -> None:
    answer = upload(away)

    assert answer.status_code == 503
    assert answer.get_json()["error"]["code"] == "file_storage_unavailable"
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_real_server_takes_a_file_in_and_gives_it_back(server: Server, chunked: bool) -> None:
    content = bytes(range(256)) * 20_000
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.bin"\r\n\r\n'
        + content
        + b'\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--b--\r\n'
    )
    connection = server.connect()
    pieces = (body[at : at + 100_000] for at in range(0, len(body), 100_000))
    headers = {**AUTH, "Content-Type": "multipart/form-data; boundary=b"}
    try:
        connection.request(
            "POST",
            "/v1/files",
            pieces if chunked else body,
            {**headers, **({"Transfer-Encoding": "chunked"} if chunked else {})},
            encode_chunked=chunked,
        )
        made = json.loads(connection.getresponse().read())
    finally:
        connection.close()

    assert made["bytes"] == len(content)
    assert server.request("GET", f"/v1/files/{made['id']}/content").body == content
    assert server.request("DELETE", f"/v1/files/{made['id']}").status == 200
