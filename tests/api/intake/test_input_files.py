"""A file that a job refers to must be its tenant's, whatever the id looks like."""

import time
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.services import of
from shared.domain.file_inputs import MAX_BYTES
from shared.domain.files import File, new_file_id
from shared.settings import Settings, load_settings
from shared.store.files import Room
from shared.store.jobs import JobStore
from tests.api.conftest import NO_LIMIT, TOKEN


@pytest.fixture
def settings(redis_url: str, prefix: str, tmp_path: Path) -> Settings:
    (tmp_path / "weights").mkdir()
    (tmp_path / "catalog.yaml").write_text(
        "models: {cats: {engine: pipeline, path: weights, options: {task: image-classification}}}"
    )
    return load_settings(
        TRUTHGPT_API_TOKEN=TOKEN,
        TRUTHGPT_CONFIG=tmp_path / "catalog.yaml",
        REDIS_URL=redis_url,
        TRUTHGPT_KEY_PREFIX=prefix,
        FILE_STORAGE=str(tmp_path / "files"),
        RATE_LIMIT_RPM=NO_LIMIT,
    )


def a_file(app: Flask, *, tenant: str = "default", size: int = 10) -> str:
    now = int(time.time())
    file = File(new_file_id(), tenant, "user_data", "cat.png", size, now, now + 60)
    of(app).files.create(file, Room(2**50, 10, 2**50))
    return file.id


@pytest.mark.parametrize(
    ("tenant", "size", "code"),
    [
        ("default", 10, None),
        ("default", MAX_BYTES + 1, "invalid_request"),
        ("other", 10, "file_not_found"),
    ],
)
def test_a_job_may_name_a_file_of_its_tenant(
    app: Flask, client: FlaskClient, store: JobStore, tenant: str, size: int, code: str | None
) -> None:
    named = {"image": {"file": a_file(app, tenant=tenant, size=size)}}

    answer = client.post("/v1/jobs", json={"model": "cats", "input": named})

    assert answer.get_json().get("code") == code
    assert len(store.listing("default")[0]) == (1 if code is None else 0)


def test_a_file_that_never_was_is_refused_before_a_job_is_made(
    client: FlaskClient, store: JobStore
) -> None:
    for name, code in ((new_file_id(), "file_not_found"), ("../etc/passwd", "invalid_request")):
        answer = client.post("/v1/jobs", json={"model": "cats", "input": {"image": {"file": name}}})
        assert answer.get_json()["code"] == code
    assert store.listing("default")[0] == []
