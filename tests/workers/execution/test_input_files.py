"""Files that jobs refer to reach the engine as base64, and those of others never."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from shared.domain.errors import StoreUnavailable
from shared.domain.files import File, new_file_id
from shared.domain.records import Claim, new_job_id
from shared.files import Storage, open_storage
from shared.store.files import Files, Room
from shared.store.jobs import JobStore
from workers.execution.input_files import InputFiles

CONTENT = bytes(range(256)) * 9000


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(None, tmp_path)


@pytest.fixture
def files(store: JobStore) -> Files:
    return Files(store)


def kept(files: Files, storage: Storage) -> File:
    now = int(time.time())
    file = File(new_file_id(), "one", "user_data", "cat.png", len(CONTENT), now, now + 60)
    writer = storage.create(file.place)
    writer.write(CONTENT)
    writer.publish()
    files.create(file, Room(10**9, 10, 10**9))
    return file


def a_claim(content: Any, tenant: str = "one") -> Claim:
    request = json.dumps({"content": content, "params": {"top_k": 1}, "seed": 7}).encode()
    return Claim(new_job_id(), 1, tenant, request, 9.0, 0, 0, 0, 0, "", "")


def test_a_reference_becomes_the_file(files: Files, storage: Storage) -> None:
    file = kept(files, storage)

    filled = json.loads(InputFiles(files, storage).filled(a_claim({"image": {"file": file.id}})))

    assert base64.b64decode(filled["content"]["image"]) == CONTENT
    assert (filled["params"], filled["seed"]) == ({"top_k": 1}, 7)


@pytest.mark.parametrize(
    "content", ['a text about a "file"', {"image": "aGk="}, {"image": {"file": 1}}, ["file"]]
)
def test_what_is_no_reference_stays_as_it_is(files: Files, storage: Storage, content: Any) -> None:
    claim = a_claim(content)

    assert json.loads(InputFiles(files, storage).filled(claim)) == json.loads(claim.request)


def test_a_file_of_another_tenant_or_one_that_is_gone_stays_a_reference(
    files: Files, storage: Storage
) -> None:
    file, inputs = kept(files, storage), InputFiles(files, storage)
    theirs = a_claim({"image": {"file": file.id}}, tenant="two")

    assert json.loads(inputs.filled(theirs))["content"] == {"image": {"file": file.id}}
    storage.delete(file.place)
    own = a_claim({"image": {"file": file.id}})
    assert json.loads(inputs.filled(own))["content"] == {"image": {"file": file.id}}


def test_a_storage_that_is_away_gives_the_job_back(
    files: Files, storage: Storage, tmp_path: Path
) -> None:
    file = kept(files, storage)
    (tmp_path / "files").rename(tmp_path / "away")
    (tmp_path / "files").write_text("")

    with pytest.raises(StoreUnavailable):
        InputFiles(files, storage).filled(a_claim({"image": {"file": file.id}}))
