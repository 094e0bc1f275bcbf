"""What every file storage must do."""

import os
import time
from pathlib import Path

import pytest

from shared.files import FileGone, Storage, StorageUnavailable, chunks, open_storage, parse_storage
from shared.files.directory import UNFINISHED

pytestmark = pytest.mark.timeout(600)  # The first run installs the S3 server.
NAME = "files/file-1"


def put(storage: Storage, name: str, *pieces: bytes) -> None:
    writer = storage.create(name)
    for piece in pieces:
        writer.write(piece)
    writer.publish()


def test_a_file_is_read_as_it_was_written(storage: Storage) -> None:
    pieces = [os.urandom(5 * 1024 * 1024) for _ in range(4)]

    put(storage, NAME, *pieces)

    whole = b"".join(pieces)
    assert b"".join(chunks(storage, NAME, 0, len(whole))) == whole
    assert storage.read(NAME, 7, 19) == whole[7:19]
    assert storage.read(NAME, len(whole) - 3, len(whole)) == whole[-3:]


def test_an_empty_file_is_a_file(storage: Storage) -> None:
    put(storage, NAME)

    assert [found.bytes for found in storage.listing("files")] == [0]
    assert list(chunks(storage, NAME, 0, 0)) == []


def test_nobody_sees_a_file_before_it_is_published(storage: Storage) -> None:
    writer = storage.create(NAME)
    writer.write(b"half")

    assert list(storage.listing("files")) == []
    with pytest.raises(FileGone):
        storage.read(NAME, 0, 4)

    writer.discard()
    assert list(storage.listing("files")) == []


def test_a_file_published_again_is_the_later_one(storage: Storage) -> None:
    put(storage, NAME, b"the first")
    put(storage, NAME, b"second")

    assert [found.bytes for found in storage.listing("files")] == [6]
    assert storage.read(NAME, 0, 6) == b"second"


def test_a_listing_has_one_folder_with_sizes_and_times(storage: Storage) -> None:
    put(storage, "parts/a/1", b"1")
    put(storage, "parts/a/2", b"22")
    put(storage, "parts/ab/1", b"333")

    found = list(storage.listing("parts/a"))

    assert [(one.name, one.bytes) for one in found] == [("parts/a/1", 1), ("parts/a/2", 2)]
    assert all(abs(one.written - time.time()) < 3600 for one in found)


def test_a_deleted_file_is_gone_and_may_be_deleted_again(storage: Storage) -> None:
    put(storage, NAME, b"x")

    storage.delete(NAME)
    storage.delete(NAME)

    with pytest.raises(FileGone):
        storage.read(NAME, 0, 1)


def test_a_storage_that_fails_says_so_without_telling_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("a file where the folder should be")

    with pytest.raises(StorageUnavailable) as failed:
        open_storage(None, tmp_path).create(NAME)

    assert str(tmp_path) not in failed.value.detail


def test_a_bucket_that_does_not_answer_fails_in_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")

    with pytest.raises(StorageUnavailable):
        open_storage("s3://files/under", tmp_path).read(NAME, 0, 1)


def test_what_was_begun_and_left_in_a_directory_is_cleared(tmp_path: Path) -> None:
    storage = open_storage(None, tmp_path)
    storage.create(NAME).write(b"left")
    folder = tmp_path / "files" / UNFINISHED

    storage.clear_unfinished(60)
    assert len(list(folder.iterdir())) == 1
    storage.clear_unfinished(-1)

    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("given", ["gs://bucket", "s3://", "s3://UPPER/x", "https://x/y"])
def test_a_setting_that_names_no_storage_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="directory, or a bucket"):
        parse_storage(given)
