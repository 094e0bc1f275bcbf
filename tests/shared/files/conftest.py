"""Fixtures of file storages: the directory, and a bucket on a real server, under the same tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.files import Storage, open_storage
from tests.shared.files.s3_server import S3Server, use


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture(params=["directory", "bucket"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    if request.param == "directory":
        return open_storage(None, tmp_path)
    url = use(request.getfixturevalue("s3_server"), monkeypatch)
    return open_storage(f"{url}/{tmp_path.name}", tmp_path)
