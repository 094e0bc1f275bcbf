"""Problem documents as OpenAI's clients read errors."""

import msgspec
import pytest

from api.http.reply import Reply
from api.openai.errors import FINAL_STATUS, to_openai
from shared.domain.errors import PROBLEMS


def answered(code: str, detail: str = "Why.", retry_after: str = "", **members: object) -> Reply:
    status = PROBLEMS[code].status
    document = {"code": code, "detail": detail, "status": status, "title": "T", **members}
    answer = Reply(msgspec.json.encode(document), status, "application/problem+json")
    if retry_after:
        answer.headers["Retry-After"] = retry_after
    return to_openai(answer)


def test_the_error_member_stands_beside_those_of_the_problem() -> None:
    faults = [{"loc": ["input", "messages", 0, "role"], "msg": "bad", "type": "x"}]
    answer = answered("invalid_request", "input.messages.0.role: bad", errors=faults)
    document = msgspec.json.decode(answer.body)

    assert answer.status_code == document["status"] == 400
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert document["error"] == {
        "message": "input.messages.0.role: bad",
        "type": "invalid_request_error",
        "param": "messages[0].role",
        "code": "invalid_request",
    }
    assert document["title"] == "T"


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_what_would_bring_the_same_again_is_tried_by_no_client(code: str) -> None:
    """The AI SDK looks at the status alone, the OpenAI clients at the header first."""
    status = answered(code).status_code
    tried_again = status in (408, 409, 429) or status >= 500
    final = answered(code).headers.get("x-should-retry") == "false"

    assert tried_again is not final


@pytest.mark.parametrize(
    "code", ["job_canceled", "run_timeout", "job_expired", "worker_crashed", "engine_error"]
)
def test_a_job_that_has_ended_is_not_asked_for_again(code: str) -> None:
    assert answered(code).status_code == FINAL_STATUS


@pytest.mark.parametrize(
    "code", ["queue_full", "rate_limited", "redis_unavailable", "model_unavailable"]
)
def test_what_may_be_tried_again_says_when(code: str) -> None:
    answer = answered(code, retry_after="3600")

    assert answer.status_code == PROBLEMS[code].status
    assert answer.headers["Retry-After"] == "60"


def test_a_prompt_that_is_too_long_has_the_words_that_langchain_looks_for() -> None:
    error = msgspec.json.decode(answered("prompt_too_long", "It has 9 tokens.").body)["error"]

    assert error["code"] == "context_length_exceeded"
    assert "prompt is too long" in error["message"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("unauthorized", "authentication_error"),
        ("forbidden", "permission_error"),
        ("unknown_model", "not_found_error"),
        ("rate_limited", "rate_limit_error"),
        ("redis_unavailable", "server_error"),
    ],
)
def test_types(code: str, kind: str) -> None:
    assert msgspec.json.decode(answered(code).body)["error"]["type"] == kind
