"""A job's document: one function makes it, and it has what the schema promises."""

from typing import Any

import msgspec
import pytest

from shared.domain import records
from shared.domain.records import Record
from shared.domain.schemas import Job, JobUrls

BORN = {"id": "job_1", "model": "m", "state": "queued", "created": "1000", "attempt": "0"}
ENDED = BORN | {
    "state": "failed",
    "started": "2000",
    "finished": "3500",
    "attempt": "2",
    "output": '{\n"text": "a"}',
    "error": '{"code":"engine_error","message":"no","retryable":true}',
    "usage": '{"run_ms":1.5,"attempts":2}',
    "metadata": '{"k":"v"}',
    "fallback_from": "other",
    "past": "1 2000 2500 engine_error w@host 1",
    "cached": "1",
    "cancel_requested": "1",
}
URLS = {"get": "g", "events": "e", "cancel": "c"}


@pytest.mark.parametrize("fields", [BORN, ENDED])
def test_the_document_has_the_members_of_the_schema_in_their_order(fields: dict[str, str]) -> None:
    document: dict[str, Any] = msgspec.json.decode(Record(fields, 3, 5000).to_json(URLS))

    left_out = set() if fields is ENDED else {"fallback_from", "earlier_attempts"}
    promised = [name for name in Job.model_fields if name not in left_out]
    assert list(document) == promised
    assert document == Job.model_validate(document).model_dump(mode="json")
    assert JobUrls.model_validate(document["urls"]) == JobUrls(**URLS)


def test_the_document_is_one_line_and_says_what_is_stored() -> None:
    record = Record(ENDED)

    assert b"\n" not in record.to_json()
    job = record.job()
    assert (job.status, job.output, job.metadata) == ("failed", {"text": "a"}, {"k": "v"})
    assert (job.started_at, job.finished_at) == (
        "1970-01-01T00:00:02.000Z",
        "1970-01-01T00:00:03.500Z",
    )
    assert job.error is not None and job.error.retryable
    assert job.usage is not None and (job.usage.run_ms, job.usage.prompt_tokens) == (1.5, None)
    assert job.cached and job.cancel_requested and job.queue_position is None


def test_earlier_attempts_are_told_without_the_place_where_they_ran() -> None:
    members = Record(
        ENDED | {"past": "1 2000 2500 drained w 1\n2 3000 3400 engine_error w"}
    ).members()

    assert members["earlier_attempts"] == [
        {
            "attempt": 1,
            "started_at": "1970-01-01T00:00:02.000Z",
            "ended_at": "1970-01-01T00:00:02.500Z",
            "reason": "drained",
        },
        {
            "attempt": 2,
            "started_at": "1970-01-01T00:00:03.000Z",
            "ended_at": "1970-01-01T00:00:03.400Z",
            "reason": "engine_error",
        },
    ]


def test_a_member_that_only_the_schema_knows_is_shown_as_it_was_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(records._FURTHER, "spans", [])

    told = Record({**ENDED, "spans": '[{"ms":1}]'}).members(URLS)
    silent = Record(ENDED).members(URLS)

    assert msgspec.json.decode(msgspec.json.encode(told))["spans"] == [{"ms": 1}]
    assert silent["spans"] == [] and list(silent)[-1] == "urls"
