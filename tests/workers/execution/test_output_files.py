"""Files of an output are stored in their tenant's name, and the output refers to them."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.domain.file_outputs import on_its_way
from shared.domain.records import Claim, new_job_id
from shared.files import Storage, StorageUnavailable, chunks, open_storage
from shared.store.files import Files, Room
from shared.store.jobs import JobStore
from workers.execution.output_files import OutputFiles
from workers.host_protocol.messages import Outcome

PICTURE, SOUND = bytes(range(256)) * 99, b"RIFF"
ROOM = Room(10**9, 2, 10**9)
OUTPUT = {"depth": on_its_way("image.png", PICTURE), "parts": [on_its_way("sound.wav", SOUND), 7]}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(None, tmp_path)


@pytest.fixture
def files(store: JobStore) -> Files:
    return Files(store)


def a_claim(attempt: int = 1, job_id: str | None = None, **params: Any) -> Claim:
    request = json.dumps({"content": "a text", "params": {"files": True, **params}}).encode()
    return Claim(job_id or new_job_id(), attempt, "one", request, 9.0, 0, 0, 0, 0, "", "")


def finished(output: Any = OUTPUT) -> Outcome:
    return Outcome("ticket", "finished", json.dumps(output).encode(), {"batch_size": 1})


def test_the_output_refers_to_files_that_are_there(files: Files, storage: Storage) -> None:
    outcome = OutputFiles(files, storage, ROOM, 60).stored(a_claim(), finished())

    assert (outcome.kind, outcome.usage) == ("finished", {"batch_size": 1})
    told = json.loads(outcome.output)
    picture = files.get(told["depth"]["file"], "one")
    sound = files.get(told["parts"][0]["file"], "one")
    assert (picture.filename, sound.filename, told["parts"][1]) == ("image.png", "sound.wav", 7)
    assert b"".join(chunks(storage, picture.place, 0, picture.bytes)) == PICTURE
    assert b"".join(chunks(storage, sound.place, 0, sound.bytes)) == SOUND
    assert picture.expires - picture.created == 60


@pytest.mark.parametrize(
    ("claim", "outcome"),
    [
        (a_claim(files=None), finished()),
        (a_claim(), Outcome("ticket", "failed", code="engine_error")),
        (a_claim(), finished({"label": "a file", "file": "none"})),
    ],
    ids=["not asked for", "no output", "none in it"],
)
def test_what_has_no_files_stays_as_it_is(
    files: Files, storage: Storage, claim: Claim, outcome: Outcome
) -> None:
    stored = OutputFiles(files, storage, ROOM, 60).stored(claim, outcome)

    assert json.loads(stored.output or b"0") == json.loads(outcome.output or b"0")
    assert stored.code == outcome.code
    assert files.listing("one") == ([], False)


def test_without_room_the_attempt_fails_and_leaves_nothing(files: Files, storage: Storage) -> None:
    outputs = OutputFiles(files, storage, Room(10**9, 1, 10**9), 60)

    outcome = outputs.stored(a_claim(), finished())

    assert (outcome.ticket, outcome.kind, outcome.output) == ("ticket", "failed", b"")
    assert outcome.code == "file_quota_exceeded"
    assert files.listing("one") == ([], False)
    assert list(storage.listing("files")) == []


def test_without_the_storage_the_attempt_fails_for_now(
    files: Files, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(name: str) -> Any:
        raise StorageUnavailable(f"no {name}")

    monkeypatch.setattr(storage, "create", away)

    outcome = OutputFiles(files, storage, ROOM, 60).stored(a_claim(), finished())

    assert (outcome.kind, outcome.code) == ("failed", "file_storage_unavailable")


def test_each_attempt_has_files_of_its_own(files: Files, storage: Storage) -> None:
    outputs, job_id = OutputFiles(files, storage, Room(10**9, 9, 10**9), 60), new_job_id()

    first, again, second = (
        json.loads(outputs.stored(a_claim(attempt, job_id), finished()).output)["depth"]["file"]
        for attempt in (1, 1, 2)
    )

    assert first == again != second
