"""Batches from upload to output, step by step, and with each step cut off at every place that it has."""

import json
from typing import Any

import pytest
from flask import Flask

from api.batches import answers, jobs
from api.batches import steps as module
from api.batches.steps import Steps
from api.services import of
from shared.domain.records import Claim
from shared.faults import faults
from tests.api.batches.conftest import Played, a_line, jsonl

ENDED = ("completed", "failed", "expired", "cancelled")
RESPONSES = "/v1/responses"
GONE = "resp_" + "0" * 32


def ids(lines: list[Any]) -> list[str]:
    return sorted(line["custom_id"] for line in lines)


def expected(total: int) -> list[str]:
    return sorted(f"line {number}" for number in range(total))


def test_a_batch_is_answered_line_by_line(played: Played) -> None:
    batch_id = played.create(jsonl([a_line(number) for number in range(50)]))
    assert played.get(batch_id)["status"] == "validating"

    ended = played.until(batch_id, *ENDED)

    assert ended["status"] == "completed", ended["errors"]
    assert ended["request_counts"] == {"total": 50, "completed": 50, "failed": 0}
    assert ended["error_file_id"] is None
    assert ended["created_at"] <= ended["in_progress_at"] <= ended["finalizing_at"]
    assert ended["finalizing_at"] <= ended["completed_at"] <= ended["expires_at"]
    lines = played.content(ended["output_file_id"])
    assert ids(lines) == expected(50)
    for line in lines:
        assert line["id"].startswith("batch_req_")
        assert line["error"] is None
        assert line["response"]["status_code"] == 200
        body = line["response"]["body"]
        number = line["custom_id"].split()[1]
        assert body["data"][0]["embedding"] == [float(len(f"text {number}")), 1.0]
        assert body["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    file = played.client.get(f"/v1/files/{ended['output_file_id']}").get_json()
    assert (file["purpose"], file["filename"]) == ("batch_output", f"{batch_id}_output.jsonl")


def test_no_more_jobs_wait_than_may_and_none_stays(played: Played) -> None:
    batch_id = played.create(jsonl([a_line(number) for number in range(60)]))
    store, waiting = played.worker.store, []

    for _ in range(100):
        played.step(batch_id)
        waiting.append(store.status("encoder").waiting)
        if played.get(batch_id)["status"] in ENDED:
            break
        played.work(7)

    assert max(waiting) == 20
    assert store.listing("default", limit=100)[0] == []


def test_requests_that_fail_stand_in_the_error_file(played: Played) -> None:
    lines = [a_line(number) for number in range(4)]
    lines[1]["body"] = {"model": "encoder"}
    lines[2]["body"]["dimensions"] = "many"
    batch_id = played.create(jsonl(lines))

    def end(claim: Claim) -> None:
        text = json.loads(claim.request)["content"]
        played.fail(claim) if text == "text 3" else played.succeed(claim)

    ended = played.until(batch_id, *ENDED, end=end)

    assert ended["status"] == "completed"
    assert ended["request_counts"] == {"total": 4, "completed": 1, "failed": 3}
    assert ids(played.content(ended["output_file_id"])) == ["line 0"]
    bad = {line["custom_id"]: line for line in played.content(ended["error_file_id"])}
    assert {name: line["response"]["status_code"] for name, line in bad.items()} == {
        "line 1": 400,
        "line 2": 400,
        "line 3": 424,
    }
    assert bad["line 2"]["response"]["body"]["error"]["param"] == "dimensions"
    assert bad["line 3"]["response"]["body"]["error"]["code"] == "engine_error"


@pytest.mark.parametrize(
    ("content", "code", "line", "param"),
    [
        (b"", "empty_file", None, None),
        (b"\n\n", "empty_file", None, None),
        (jsonl([a_line(0)]) + b"{broken\n", "invalid_json_line", 2, None),
        (b"[]\n", "invalid_json_line", 1, None),
        (jsonl([a_line(0), a_line(0)]), "duplicate_custom_id", 2, "custom_id"),
        (jsonl([a_line(0, custom_id=7)]), "invalid_custom_id", 1, "custom_id"),
        (jsonl([a_line(0, custom_id=None)]), "missing_required_parameter", 1, "custom_id"),
        (jsonl([a_line(0, method="GET")]), "invalid_method", 1, "method"),
        (jsonl([a_line(0, url="/v1/completions")]), "mismatched_endpoint", 1, "url"),
        (jsonl([a_line(0, body=[])]), "invalid_request", 1, "body"),
        (jsonl([a_line(0, body={"input": "x"})]), "missing_required_parameter", 1, "body.model"),
        (jsonl([a_line(0, body={"model": "none"})]), "model_not_found", 1, "body.model"),
        (jsonl([a_line(0, "x" * 70_000)]), "line_too_long", 1, None),
        (
            jsonl([a_line(n, body={"model": "encoder", "input": ["x"] * 9000}) for n in range(6)]),
            "too_many_inputs",
            None,
            None,
        ),
    ],
)
def test_an_input_that_is_none_fails_before_any_job(
    played: Played, content: bytes, code: str, line: int | None, param: str | None
) -> None:
    batch_id = played.create(content)

    ended = played.until(batch_id, *ENDED)

    assert ended["status"] == "failed"
    fault = ended["errors"]["data"][0]
    assert (fault["code"], fault["line"], fault["param"]) == (code, line, param)
    assert ended["failed_at"]
    assert ended["output_file_id"] is None
    assert played.worker.store.listing("default")[0] == []


def test_lines_may_end_as_they_like_and_the_last_not_at_all(played: Played) -> None:
    lines = [json.dumps(a_line(number), ensure_ascii=False).encode() for number in range(3)]
    content = b"\xef\xbb\xbf" + lines[0] + b"\r\n\n" + lines[1] + b"\n  \n" + lines[2]

    ended = played.until(played.create(content), *ENDED)

    assert ids(played.content(ended["output_file_id"])) == expected(3)


def test_a_cancelled_batch_keeps_what_is_finished(played: Played) -> None:
    batch_id = played.create(jsonl([a_line(number) for number in range(40)]))
    played.step(batch_id)
    played.step(batch_id)
    played.work(5)

    asked = played.client.post(f"/v1/batches/{batch_id}/cancel").get_json()
    again = played.client.post(f"/v1/batches/{batch_id}/cancel").get_json()
    ended = played.until(batch_id, *ENDED, work=False)

    assert asked["status"] == again["status"] == "cancelling"
    assert ended["status"] == "cancelled"
    assert ended["cancelling_at"] <= ended["cancelled_at"]
    assert ended["request_counts"] == {"total": 40, "completed": 5, "failed": 35}
    done = played.content(ended["output_file_id"])
    rest = played.content(ended["error_file_id"])
    assert ids(done) == [f"line {number}" for number in range(5)]
    assert ids(done + rest) == expected(40)
    assert {line["error"]["code"] for line in rest} == {"batch_cancelled"}
    assert {line["response"] for line in rest} == {None}
    assert played.worker.store.status("encoder").waiting == 0
    assert played.client.post(f"/v1/batches/{batch_id}/cancel").get_json() == ended


def test_a_batch_is_cancelled_before_its_input_was_read(played: Played) -> None:
    batch_id = played.create(jsonl([a_line(0)]))

    played.client.post(f"/v1/batches/{batch_id}/cancel")
    ended = played.until(batch_id, *ENDED)

    assert ended["status"] == "cancelled"
    assert ended["request_counts"] == {"total": 0, "completed": 0, "failed": 0}


def test_a_batch_that_has_ended_is_not_cancelled(played: Played) -> None:
    ended = played.until(played.create(jsonl([a_line(0)])), *ENDED)

    answer = played.client.post(f"/v1/batches/{ended['id']}/cancel")

    assert answer.status_code == 400
    assert answer.get_json()["error"]["code"] == "batch_ended"


def test_what_is_not_done_in_time_is_told_as_expired(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_id = played.create(jsonl([a_line(number) for number in range(40)]))
    played.step(batch_id)
    played.step(batch_id)
    played.work(3)
    expires = played.get(batch_id)["expires_at"]
    monkeypatch.setattr(module.time, "time", lambda: expires + 1.0)

    ended = played.until(batch_id, *ENDED, work=False)

    assert ended["status"] == "expired"
    assert ended["expired_at"]
    assert ended["request_counts"] == {"total": 40, "completed": 3, "failed": 37}
    rest = played.content(ended["error_file_id"])
    assert ids(played.content(ended["output_file_id"]) + rest) == expected(40)
    assert {line["error"]["code"] for line in rest} == {"batch_expired"}


PLACES = (
    *("batch_claimed", "batch_filled", "batch_part_stored", "batch_written", "batch_finished"),
)


class Cut(BaseException):
    """A process ends here."""


@pytest.mark.parametrize("place", PLACES)
def test_a_step_that_is_cut_off_anywhere_is_taken_up_and_no_line_is_answered_twice(
    played: Played, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    batch_id = played.create(jsonl([a_line(number) for number in range(45)]))
    reached = [0]

    def reach(name: str) -> None:
        if name == place:
            reached[0] += 1
            if reached[0] % 2:
                raise Cut

    monkeypatch.setattr(faults, "reach", reach)
    for _ in range(200):
        if played.get(batch_id)["status"] in ENDED:
            break
        played.due(batch_id)
        try:
            played.steps.step()
        except Cut:
            continue
        played.work(6)
    ended = played.get(batch_id)

    assert reached[0] > 1
    assert ended["status"] == "completed"
    assert ended["request_counts"] == {"total": 45, "completed": 45, "failed": 0}
    assert ids(played.content(ended["output_file_id"])) == expected(45)


def test_who_lost_a_batch_writes_nothing_any_more(played: Played, app: Flask) -> None:
    batch_id = played.create(jsonl([a_line(number) for number in range(10)]))
    played.step(batch_id)
    played.step(batch_id)
    played.work()
    store = played.worker.store
    played.due(batch_id)
    late = of(app).batches.claim(30)
    assert late is not None

    played.step(batch_id)
    said = of(app).batches.commit(late, module.Step({"line": 0}, done=10), 0)
    ended = played.until(batch_id, *ENDED)

    assert said == "fenced"
    assert ended["request_counts"]["completed"] == 10
    assert ids(played.content(ended["output_file_id"])) == expected(10)
    assert store.redis.zcard(store.keys("openbatches")) == 0


def test_jobs_that_redis_has_forgotten_are_made_anew(played: Played) -> None:
    batch_id = played.create(jsonl([a_line(number) for number in range(10)]))
    played.step(batch_id)
    played.step(batch_id)
    store = played.worker.store
    for record in store.listing("default", limit=100)[0]:
        store.cancel(record.id)
        store.delete(record.id, "default")

    ended = played.until(batch_id, *ENDED)

    assert ended["request_counts"] == {"total": 10, "completed": 10, "failed": 0}
    assert ids(played.content(ended["output_file_id"])) == expected(10)


def test_a_queue_without_room_is_waited_for(played: Played) -> None:
    lines = [a_line(n, url="/v1/embeddings") for n in range(6)]
    batch_id = played.create(jsonl(lines))
    key = played.worker.store.keys("batch", batch_id)
    played.worker.store.redis.hset(key, "max_queued", 2)
    played.step(batch_id)

    played.step(batch_id)
    assert played.worker.store.status("encoder").waiting == 2
    ended = played.until(batch_id, *ENDED)

    assert ended["request_counts"] == {"total": 6, "completed": 6, "failed": 0}


def test_jobs_of_batches_go_behind_interactive_ones_of_their_tenant(played: Played) -> None:
    batch_id = played.create(jsonl([a_line(number) for number in range(10)]))
    played.step(batch_id)
    played.step(batch_id)
    played.client.post("/v1/jobs", json={"model": "encoder", "input": "at once"})

    (first,) = played.worker.store.claim("encoder", 1, "played").claims

    assert json.loads(first.request)["content"] == "at once"


def test_an_input_stays_until_its_batch_has_ended(played: Played) -> None:
    file_id = played.upload(jsonl([a_line(0)]))
    batch_id = played.post(file_id).get_json()["id"]

    refused = played.client.delete(f"/v1/files/{file_id}")
    played.until(batch_id, *ENDED)
    deleted = played.client.delete(f"/v1/files/{file_id}")

    assert refused.status_code == 400
    assert refused.get_json()["error"]["code"] == "file_in_use"
    assert deleted.status_code == 200


def test_an_input_that_the_storage_has_lost_fails_its_batch_and_keeps_what_is_finished(
    played: Played, app: Flask
) -> None:
    file_id = played.upload(jsonl([a_line(number) for number in range(30)]))
    batch_id = played.post(file_id).get_json()["id"]
    played.step(batch_id)
    played.step(batch_id)
    played.work()
    of(app).storage.delete(f"files/{file_id}")

    ended = played.until(batch_id, *ENDED)

    assert ended["status"] == "failed"
    assert ended["errors"]["data"][0]["code"] == "input_file_gone"
    assert ended["request_counts"]["completed"] == 20
    assert len(played.content(ended["output_file_id"])) == 20


def test_parts_are_removed_when_a_batch_has_ended(played: Played, app: Flask) -> None:
    played.until(played.create(jsonl([a_line(number) for number in range(30)])), *ENDED)

    assert list(of(app).storage.listing("parts")) == []


def test_chats_and_completions_are_answered_as_their_routes_do(played: Played) -> None:
    body = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}]}
    chats = [a_line(n, url="/v1/chat/completions", body=body) for n in range(2)]
    chats[1] = a_line(1, url="/v1/chat/completions", body={**body, "stream": True})
    batch_id = played.create(jsonl(chats), "/v1/chat/completions")
    for _ in range(3):
        played.step(batch_id)
    (claim,) = played.worker.store.claim("llama", 5, "played").claims
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "attempts": 1}
    played.worker.end(claim, output={"text": "Hello", "finish_reason": "stop"}, usage=usage)

    ended = played.until(batch_id, *ENDED, work=False)

    (answer,) = played.content(ended["output_file_id"])
    told = answer["response"]["body"]
    assert told["object"] == "chat.completion"
    assert told["choices"][0]["message"]["content"] == "Hello"
    assert told["service_tier"] == "flex"
    (refused,) = played.content(ended["error_file_id"])
    assert refused["response"]["body"]["error"]["param"] == "stream"


def test_responses_are_answered_with_what_was_asked(played: Played) -> None:
    asked = {"model": "llama", "input": "Hi", "instructions": "Be brief."}
    bodies = [asked, {**asked, "background": True}, {**asked, "previous_response_id": GONE}]
    lines = [a_line(n, url=RESPONSES, body=body) for n, body in enumerate(bodies)]

    batch_id = played.create(jsonl(lines), RESPONSES)
    for _ in range(3):
        played.step(batch_id)
    (claim,) = played.worker.store.claim("llama", 5, "played").claims
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "attempts": 1}
    played.worker.end(claim, output={"text": "Hello", "finish_reason": "stop"}, usage=usage)
    ended = played.until(batch_id, *ENDED, work=False)

    (answer,) = played.content(ended["output_file_id"])
    told = answer["response"]["body"]
    assert told["id"] == answer["id"].replace("batch_req_", "resp_")
    assert told["output"][0]["content"][0]["text"] == "Hello"
    assert told["instructions"] == "Be brief." and told["service_tier"] == "flex"
    assert told["store"] is False, "its job is forgotten with the batch"
    refused = played.content(ended["error_file_id"])
    faults = {one["custom_id"]: one["response"]["body"]["error"] for one in refused}
    assert faults["line 1"]["param"] == "background"
    assert faults["line 2"]["code"] == "previous_response_not_found"


def test_a_response_without_what_was_asked_ends_its_line(played: Played) -> None:
    body = {"model": "llama", "input": "Hi"}
    batch_id = played.create(jsonl([a_line(0, url=RESPONSES, body=body)]), RESPONSES)
    for _ in range(3):
        played.step(batch_id)
    store = played.worker.store
    (claim,) = store.claim("llama", 5, "played").claims
    played.worker.end(claim, output={"text": "Hello", "finish_reason": "stop"}, usage={})
    store.redis.delete(store.keys("asked", claim.id))

    ended = played.until(batch_id, *ENDED, work=False)

    (answer,) = played.content(ended["error_file_id"])
    assert answer["response"]["status_code"] == 500


@pytest.mark.parametrize("beneath", [(), ("to_problem",), ("to_openai",)])
def test_a_bug_ends_the_lines_that_it_meets_even_one_in_what_tells_of_it(
    played: Played, monkeypatch: pytest.MonkeyPatch, beneath: tuple[str, ...]
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(jobs, "accept", broken)
    for name in beneath:
        monkeypatch.setattr(answers, name, broken)
    batch_id = played.create(jsonl([a_line(number) for number in range(3)]))

    ended = played.until(batch_id, *ENDED)

    assert ended["status"] == "completed"
    assert ended["request_counts"] == {"total": 3, "completed": 0, "failed": 3}
    lines = played.content(ended["error_file_id"])
    assert ids(lines) == expected(3)
    for line in lines:
        assert line["response"]["status_code"] == 500
        assert line["response"]["body"]["error"]["code"] == "internal_error"


def test_a_line_has_one_prompt(played: Played) -> None:
    body = {"model": "llama", "prompt": ["One", "Two"]}
    line = a_line(0, url="/v1/completions", body=body)

    ended = played.until(played.create(jsonl([line]), "/v1/completions"), *ENDED)

    (refused,) = played.content(ended["error_file_id"])
    assert refused["response"]["body"]["error"]["param"] == "prompt"


def test_steps_of_an_idle_server_do_nothing(played: Played, app: Flask) -> None:
    assert Steps(of(app), 10).step() is False
