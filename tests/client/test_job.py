import pytest

from client import Client, Job, JobFailed
from tests.client.conftest import ScriptedServer, answer, job_json


def test_wait_polls_long_until_the_end(client: Client, server: ScriptedServer) -> None:
    server.replies = [
        answer(job_json(status="running", attempt=1)),
        answer(job_json(status="succeeded", output={"text": "hi"})),
    ]

    job = Job.parse(job_json(), client).wait(timeout=20)

    assert (job.status, job.output) == ("succeeded", {"text": "hi"})
    assert server.seen[0].path == "/v1/jobs/job_1?wait=20"


def test_wait_gives_up_after_its_timeout(client: Client, server: ScriptedServer) -> None:
    server.replies = [answer(job_json(status="running"))]

    with pytest.raises(TimeoutError, match=r"job_1 is still running after 0\.2 s"):
        Job.parse(job_json(), client).wait(timeout=0.2)

    assert len(server.seen) <= 2


def test_a_job_that_has_ended_needs_no_call(client: Client, server: ScriptedServer) -> None:
    job = Job.parse(job_json(status="succeeded", output={"text": "hi"}), client)

    assert job.wait() is job
    assert job.text() == "hi"
    assert server.seen == []


def test_text_of_a_failed_job_raises_what_went_wrong(client: Client) -> None:
    error = {"code": "engine_error", "message": "boom", "retryable": True}
    job = Job.parse(job_json(status="failed", error=error), client)

    with pytest.raises(JobFailed, match="engine_error: boom") as caught:
        job.text()

    assert caught.value.job is job


def test_text_of_embeddings_is_a_type_error(client: Client) -> None:
    job = Job.parse(job_json(status="succeeded", output={"embeddings": []}), client)
    with pytest.raises(TypeError, match="not text"):
        job.text()


def test_fields_of_a_newer_server_stay_in_raw(client: Client) -> None:
    job = Job.parse(job_json(colour="red"), client)
    assert job.raw["colour"] == "red"


def test_cancel_refresh_and_delete_call_their_urls(client: Client, server: ScriptedServer) -> None:
    server.replies = [
        answer(job_json(cancel_requested=True), 202),
        answer(job_json(status="canceled")),
        answer(None, 204),
    ]
    job = Job.parse(job_json(), client)

    assert job.cancel().cancel_requested
    assert job.refresh().status == "canceled"
    job.delete()

    assert [(seen.method, seen.path) for seen in server.seen] == [
        ("POST", "/v1/jobs/job_1/cancel"),
        ("GET", "/v1/jobs/job_1"),
        ("DELETE", "/v1/jobs/job_1"),
    ]
