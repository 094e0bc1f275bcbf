import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from client import ApiError, Client, ClientError, ConnectionFailed
from client.errors import retry_after
from tests.client.conftest import ScriptedServer, answer, hang_up, job_json, problem


def test_submit_sends_only_what_was_given(client: Client, server: ScriptedServer) -> None:
    server.replies = [answer(job_json(), 202)]

    job = client.submit("echo", "hi", params={"repeat": 2}, metadata={"a": "b"}, wait=5)

    assert (job.id, job.status, job.done) == ("job_1", "queued", False)
    [seen] = server.seen
    assert (seen.method, seen.path) == ("POST", "/v1/jobs")
    assert seen.body == {
        "model": "echo",
        "prompt": "hi",
        "params": {"repeat": 2},
        "metadata": {"a": "b"},
    }
    assert seen.headers["Authorization"] == "Bearer a-token-for-tests"
    assert seen.headers["Prefer"] == "wait=5"


@pytest.mark.parametrize(
    "failures",
    [
        [hang_up],
        [hang_up, hang_up],
        [problem(503, "queue_full")],
        [problem(429, "rate_limited")],
        [answer("<html>", 502), hang_up],
    ],
)
def test_a_submission_is_repeated_under_one_idempotency_key(
    client: Client, server: ScriptedServer, failures: list
) -> None:
    server.replies = [*failures, answer(job_json(), 202)]

    client.submit("echo", "hi")

    keys = {seen.headers["Idempotency-Key"] for seen in server.seen}
    assert len(server.seen) == len(failures) + 1
    assert len(keys) == 1
    assert all(seen.body == {"model": "echo", "prompt": "hi"} for seen in server.seen)


def test_two_submissions_have_two_keys(client: Client, server: ScriptedServer) -> None:
    server.replies = [answer(job_json(), 202)]

    client.submit("echo", "hi")
    client.submit("echo", "hi")
    client.submit("echo", "hi", idempotency_key="mine")

    first, second, third = (seen.headers["Idempotency-Key"] for seen in server.seen)
    assert first != second
    assert third == "mine"


def test_a_retry_waits_as_long_as_the_server_asks(server: ScriptedServer) -> None:
    server.replies = [problem(503, "queue_full", headers={"Retry_After": "60"})]

    with Client(server.url, "t", retry_for=1) as client, pytest.raises(ApiError) as caught:
        client.submit("echo", "hi")

    assert caught.value.retry_after == 60
    assert len(server.seen) == 1


def test_a_problem_becomes_an_api_error(client: Client, server: ScriptedServer) -> None:
    rows = [{"loc": ["params", "top_p"], "msg": "too big", "type": "less_than"}]
    server.replies = [problem(422, "invalid_request", "no good", request_id="r1", errors=rows)]

    with pytest.raises(ApiError) as caught:
        client.submit("echo", "hi")

    error = caught.value
    assert (error.status, error.code, error.detail) == (422, "invalid_request", "no good")
    assert (error.request_id, error.errors) == ("r1", tuple(rows))
    assert len(server.seen) == 1


def test_an_error_that_is_no_problem_document_still_has_a_code(
    client: Client, server: ScriptedServer
) -> None:
    server.replies = [answer(["nonsense"], 418, X_Request_ID="r2")]

    with pytest.raises(ApiError) as caught:
        client.get("job_1")

    assert (caught.value.code, caught.value.request_id) == ("http_418", "r2")


def test_nobody_there_is_connection_failed() -> None:
    refused = pytest.raises(ConnectionFailed, match=r"http://127\.0\.0\.1:1: Connection refused")
    with Client("http://127.0.0.1:1", "t", retry_for=0.3) as client, refused:
        client.models()


@pytest.mark.parametrize(
    "url", ["nonsense", "localhost:8080", "ftp://example.org", "http://", "http://[::1"]
)
def test_a_url_that_is_none_is_told_before_anything_is_sent(url: str) -> None:
    with pytest.raises(ClientError, match="URL"):
        Client(url, "t", retry_for=60)


def test_a_token_that_no_header_can_carry_is_refused() -> None:
    with pytest.raises(ClientError, match="header"):
        Client(token="a\nb")


def test_the_token_comes_from_the_environment(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUTHGPT_API_TOKEN", "from-the-environment")
    server.replies = [answer(job_json())]

    with Client(server.url) as client:
        client.get("job_1")

    assert server.seen[0].headers["Authorization"] == "Bearer from-the-environment"


def test_jobs_are_paged_by_cursor(client: Client, server: ScriptedServer) -> None:
    pages = [[job_json(id=f"job_{page}{row}") for row in range(2)] for page in range(3)]
    server.replies = [
        answer({"data": pages[0], "next_cursor": "c1"}),
        answer({"data": pages[1], "next_cursor": "c2"}),
        answer({"data": pages[2], "next_cursor": None}),
    ]

    ids = [job.id for job in client.jobs(status="queued")]

    assert ids == ["job_00", "job_01", "job_10", "job_11", "job_20", "job_21"]
    assert [seen.path for seen in server.seen] == [
        "/v1/jobs?status=queued&limit=100",
        "/v1/jobs?status=queued&limit=100&cursor=c1",
        "/v1/jobs?status=queued&limit=100&cursor=c2",
    ]


def test_a_limit_of_jobs_asks_for_no_page_too_many(client: Client, server: ScriptedServer) -> None:
    server.replies = [answer({"data": [job_json(), job_json()], "next_cursor": "c1"})]

    assert len(list(client.jobs(limit=2))) == 2
    assert [seen.path for seen in server.seen] == ["/v1/jobs?limit=2"]


def test_a_lost_answer_to_delete_is_not_repeated(client: Client, server: ScriptedServer) -> None:
    server.replies = [hang_up]

    with pytest.raises(ConnectionFailed):
        client.delete("job_1")

    assert [(seen.method, seen.path) for seen in server.seen] == [("DELETE", "/v1/jobs/job_1")]


def test_an_id_cannot_escape_its_path(client: Client, server: ScriptedServer) -> None:
    with pytest.raises(ClientError, match="not a job id"):
        client.get("../models")
    assert server.seen == []


def test_infer_waits_for_a_job_that_outlasts_the_call(
    client: Client, server: ScriptedServer
) -> None:
    server.replies = [
        answer(job_json(status="running"), 202),
        answer(job_json(status="succeeded", output={"text": "hi"})),
    ]

    assert client.infer("echo", "hi").text() == "hi"
    assert [seen.path for seen in server.seen] == ["/v1/infer", "/v1/jobs/job_1?wait=30"]


def test_a_failed_infer_names_its_job(client: Client, server: ScriptedServer) -> None:
    server.replies = [problem(422, "invalid_input", job_id="job_9")]

    with pytest.raises(ApiError) as caught:
        client.infer("echo", "hi")

    assert caught.value.job_id == "job_9"


def test_retry_after_is_seconds_or_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after("7") == 7
    assert 25 < (retry_after(soon) or 0) <= 30
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("tomorrow") is None
    assert retry_after(None) is None


@pytest.mark.parametrize("call", ["submit", "infer", "stream"])
def test_a_field_that_jobs_do_not_have_is_refused_before_anything_is_sent(
    client: Client, server: ScriptedServer, call: str
) -> None:
    with pytest.raises(TypeError, match=r"^a job has no param$"):
        getattr(client, call)("echo", "hi", param={"repeat": 2})
    assert not server.seen


def test_certificates_are_read_for_https_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    contexts: list[Any] = []
    make = ssl.create_default_context

    def counted(*arguments: Any, **options: Any) -> ssl.SSLContext:
        contexts.append(make(*arguments, **options))
        return contexts[-1]

    monkeypatch.setattr(ssl, "create_default_context", counted)
    Client("http://127.0.0.1:1").close()
    assert contexts == []

    Client("https://127.0.0.1:1").close()

    assert contexts and all(one.verify_mode is ssl.CERT_REQUIRED for one in contexts)
