"""Files whose time is over go, with their content; so does content that nobody knows."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from shared.domain.files import File, new_file_id
from shared.files import Storage, open_storage
from shared.files.directory import UNFINISHED
from shared.store.batches import Batches
from shared.store.files import Files, Room
from shared.store.jobs import JobStore
from workers.files.sweeper import SEARCH_SECONDS, FileSweeper

ROOM = Room(10**6, 100, 10**6)
DAY = 24 * 3600


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(None, tmp_path)


@pytest.fixture
def files(store: JobStore) -> Files:
    return Files(store)


def kept(files: Files, storage: Storage, *, lives: int) -> File:
    now = int(time.time())
    file = File(new_file_id(), "one", "batch", "f", 1, now, now + lives)
    store_content(storage, file.place)
    files.create(file, ROOM)
    return file


def a_sweeper(files: Files, storage: Storage, **kwargs: Any) -> FileSweeper:
    return FileSweeper(files, Batches(files._store, 3600), storage, **kwargs)


def store_content(storage: Storage, place: str) -> None:
    writer = storage.create(place)
    writer.write(b"x")
    writer.publish()


def places(storage: Storage) -> list[str]:
    return [found.name for found in storage.listing("files")]


def test_what_has_expired_goes_with_its_content(files: Files, storage: Storage) -> None:
    lives, _expired = kept(files, storage, lives=60), kept(files, storage, lives=0)

    a_sweeper(files, storage).sweep()

    assert places(storage) == [lives.place]
    assert files.expired(10) == []


def test_a_file_that_a_batch_reads_stays_until_it_is_read(
    store: JobStore, files: Files, storage: Storage
) -> None:
    file = kept(files, storage, lives=0)
    store.redis.hset(store.keys("file", file.id), "readers", 1)

    a_sweeper(files, storage).sweep()

    assert places(storage) == [file.place]


def test_content_without_a_record_goes_after_a_day_and_never_sooner(
    files: Files, storage: Storage, tmp_path: Path
) -> None:
    known = kept(files, storage, lives=60)
    for file_id in (young := new_file_id(), old := new_file_id()):
        store_content(storage, f"files/{file_id}")
    for place in (f"files/{old}", known.place):
        os.utime(tmp_path / "files" / place, times=(0, time.time() - DAY - 1))
    storage.create("files/begun").write(b"x")
    (left,) = (tmp_path / "files" / UNFINISHED).iterdir()
    os.utime(left, times=(0, time.time() - DAY - 1))
    now = [0.0]
    sweeper = a_sweeper(files, storage, clock=lambda: now[0])

    sweeper.sweep()
    assert sorted(places(storage)) == sorted([known.place, f"files/{young}"])
    assert not left.exists()

    os.utime(tmp_path / "files" / "files" / young, times=(0, time.time() - DAY - 1))
    sweeper.sweep()
    assert len(places(storage)) == 2
    now[0] = SEARCH_SECONDS
    sweeper.sweep()
    assert places(storage) == [known.place]


def test_a_storage_that_is_away_is_tried_again(
    files: Files, storage: Storage, tmp_path: Path
) -> None:
    expired = kept(files, storage, lives=0)
    (tmp_path / "files").rename(tmp_path / "away")
    (tmp_path / "files").write_text("")

    a_sweeper(files, storage).sweep()
    (tmp_path / "files").unlink()
    (tmp_path / "away").rename(tmp_path / "files")

    assert not files.known(expired.id)
    os.utime(tmp_path / "files" / expired.place, times=(0, 0))
    a_sweeper(files, storage).sweep()
    assert places(storage) == []


def test_parts_of_a_batch_that_is_not_open_go_after_a_day(
    store: JobStore, files: Files, storage: Storage, tmp_path: Path
) -> None:
    open_one, ended = f"batch_{'0' * 32}", f"batch_{'1' * 32}"
    store.redis.zadd(store.keys("openbatches"), {open_one: 1})
    store.redis.expire(store.keys("openbatches"), 60)
    for batch in (open_one, ended):
        store_content(storage, f"parts/{batch}/1.output")
        path = tmp_path / "files" / "parts" / batch / "1.output"
        os.utime(path, times=(0, time.time() - DAY - 1))

    a_sweeper(files, storage).sweep()

    assert [found.name for found in storage.listing("parts")] == [f"parts/{open_one}/1.output"]
