"""Batches whose steps break: counted, tried again later, given up where nothing is lost by it."""

import logging
from typing import Any

import pytest
from flask import Flask

from api.batches import broken_steps, jobs, steps
from api.batches.broken_steps import LONGEST_PAUSE, TRIES
from api.services import of
from shared.hooks import Hooks
from tests.api.batches.conftest import Played, a_line, jsonl


def broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError


class Seen(Hooks):
    def __init__(self) -> None:
        self.broken = list[str]()
        self.ended = list[str]()

    def batch_step_broke(self, status: str) -> None:
        self.broken.append(status)

    def batch_ended_as(self, status: str) -> None:
        self.ended.append(status)


def to_be_finished(played: Played) -> str:
    """A batch whose lines all have their answers; its files are still to be made."""
    batch_id = played.create(jsonl([a_line(0)]))
    while played.get(batch_id)["status"] != "finalizing":
        played.step(batch_id)
        played.work()
    return batch_id


def due_in(played: Played, batch_id: str) -> float:
    """Seconds until a batch's next step."""
    store = played.worker.store
    seconds, micros = store.redis.time()  # type: ignore[misc]
    at = store.redis.zscore(store.keys("openbatches"), batch_id)
    return float(at) / 1000 - seconds - micros / 1e6  # type: ignore[arg-type]


def test_an_input_that_breaks_its_validation_fails_its_batch(
    played: Played, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed = Seen()
    of(app).observers.add(observed)
    monkeypatch.setattr(steps.Validator, "_check", broken)
    batch_id = played.create(jsonl([a_line(0)]))

    pauses = list[float]()
    for _ in range(TRIES - 1):
        played.step(batch_id)
        pauses.append(due_in(played, batch_id))
    assert played.get(batch_id)["status"] == "validating"
    played.step(batch_id)

    ended = played.get(batch_id)
    assert ended["status"] == "failed" and ended["failed_at"]
    assert [fault["code"] for fault in ended["errors"]["data"]] == ["internal_error"]
    assert pauses == sorted(pauses) and pauses[-1] > 60
    played.close(batch_id)
    assert observed.broken == ["validating"] * TRIES
    assert observed.ended == ["failed"]


def test_a_step_that_goes_well_after_some_that_broke_begins_the_count_anew(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = played.create(jsonl([a_line(number) for number in range(3)]))
    with monkeypatch.context() as patched:
        patched.setattr(steps.Validator, "_check", broken)
        for _ in range(TRIES - 1):
            played.step(batch_id)
    played.step(batch_id)
    with monkeypatch.context() as patched:
        patched.setattr(steps.LineJobs, "make", broken)
        for _ in range(TRIES - 1):
            played.step(batch_id)

    ended = played.until(batch_id, "completed", "failed")

    assert ended["request_counts"] == {"total": 3, "completed": 3, "failed": 0}


def test_answers_are_kept_until_the_window_ends_where_their_file_cannot_be_made(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = to_be_finished(played)
    with monkeypatch.context() as patched:
        patched.setattr(steps.Finisher, "files", broken)
        for _ in range(2 * TRIES):
            played.step(batch_id)
    assert played.get(batch_id)["status"] == "finalizing"
    assert LONGEST_PAUSE - 60 < due_in(played, batch_id) <= LONGEST_PAUSE

    mended = played.until(batch_id, "completed", "failed")
    assert mended["status"] == "completed"
    assert len(played.content(mended["output_file_id"])) == 1


def test_a_batch_whose_files_cannot_be_made_fails_when_its_window_has_ended(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = to_be_finished(played)
    expires = played.get(batch_id)["expires_at"]
    monkeypatch.setattr(steps.Finisher, "files", broken)
    monkeypatch.setattr(broken_steps.time, "time", lambda: expires + 1.0)

    statuses = list[str]()
    for _ in range(TRIES):
        played.step(batch_id)
        statuses.append(played.get(batch_id)["status"])

    assert statuses == ["finalizing"] * (TRIES - 1) + ["failed"]


def test_a_batch_that_nobody_validates_in_time_expires(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = played.create(jsonl([a_line(0)]))
    expires = played.get(batch_id)["expires_at"]
    monkeypatch.setattr(steps.time, "time", lambda: expires + 1.0)

    ended = played.until(batch_id, "completed", "failed", "expired")

    assert ended["status"] == "expired"


def test_a_bug_that_a_line_meets_is_logged_under_what_the_line_asks(
    played: Played, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "accept", broken)
    batch_id = played.create(jsonl([a_line(0)]))

    with caplog.at_level(logging.ERROR):
        played.until(batch_id, "completed")

    assert f"request {batch_id}-1: POST /v1/embeddings broke" in caplog.text
