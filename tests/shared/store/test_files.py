"""Records of files: room, expiry, listings, tenants."""

import time

import pytest

from shared.domain.errors import InvalidRequest, TryLater
from shared.domain.files import File, new_file_id
from shared.store.files import FileNotFound, Files, Room
from shared.store.jobs import JobStore

ROOM = Room(bytes=1000, files=3, total=1500)


@pytest.fixture
def files(store: JobStore) -> Files:
    return Files(store)


def a_file(size: int = 10, *, tenant: str = "one", purpose: str = "batch", lives: int = 60) -> File:
    now = int(time.time())
    return File(new_file_id(), tenant, purpose, "name.jsonl", size, now, now + lives)


def test_a_file_is_found_by_its_tenant_alone(files: Files) -> None:
    file = a_file()
    files.create(file, ROOM)

    assert files.get(file.id, "one") == file
    with pytest.raises(FileNotFound):
        files.get(file.id, "two")
    with pytest.raises(FileNotFound):
        files.get("file-*", "one")


def test_a_file_written_down_twice_counts_once(files: Files) -> None:
    file = a_file(600)

    files.create(file, ROOM)
    files.create(file, ROOM)

    files.create(a_file(400), ROOM)
    with pytest.raises(TryLater):
        files.create(a_file(1), ROOM)


@pytest.mark.parametrize(
    ("before", "tenant", "size", "code"),
    [
        ([900], "one", 101, "file_quota_exceeded"),
        ([1, 1, 1], "one", 1, "file_quota_exceeded"),
        ([900], "two", 601, "file_storage_full"),
    ],
)
def test_a_file_without_room_is_refused_before_and_after_it_is_sent(
    files: Files, before: list[int], tenant: str, size: int, code: str
) -> None:
    for bytes_ in before:
        files.create(a_file(bytes_), ROOM)

    with pytest.raises(TryLater) as first:
        files.require_room(tenant, size, ROOM)
    with pytest.raises(TryLater) as then:
        files.create(a_file(size, tenant=tenant), ROOM)

    assert first.value.code == then.value.code == code
    assert first.value.detail == then.value.detail


def test_a_deleted_file_gives_its_room_back_once(files: Files) -> None:
    file = a_file(1000)
    files.create(file, ROOM)

    files.delete(file)
    files.delete(file)

    files.create(a_file(1000), ROOM)
    with pytest.raises(TryLater):
        files.create(a_file(1), ROOM)


def test_an_expired_file_is_gone_at_once_and_its_room_when_it_is_forgotten(files: Files) -> None:
    file = a_file(1000, lives=0)
    files.create(file, ROOM)

    with pytest.raises(FileNotFound):
        files.get(file.id, "one")
    assert files.listing("one") == ([], False)
    assert files.expired(10) == [(file.id, "one", 1000)]
    assert files.known(file.id)

    assert files.forget(file.id, "one", 1000)
    assert files.expired(10) == []
    assert not files.known(file.id)
    files.create(a_file(1000), ROOM)


def test_a_listing_is_cut_into_pages_either_way(files: Files) -> None:
    room = Room(10**6, 100, 10**6)
    made = []
    for number in range(5):
        made.append(a_file(purpose="batch" if number % 2 == 0 else "vision"))
        files.create(made[-1], room)
        time.sleep(0.002)  # Ids sort by the millisecond.
    files.create(a_file(tenant="two"), room)

    newest, more = files.listing("one", limit=2)
    rest, no_more = files.listing("one", limit=3, after=newest[-1].id)

    assert [*newest, *rest] == made[::-1]
    assert (more, no_more) == (True, False)
    assert files.listing("one", oldest_first=True)[0] == made
    assert files.listing("one", purpose="vision")[0] == [made[3], made[1]]
    with pytest.raises(InvalidRequest):
        files.listing("one", after="nothing")
