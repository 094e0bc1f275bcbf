"""`truthgpt dead`: over the same API as everything else."""

from tests.cli.test_jobs import FAILED, run
from tests.client.conftest import ScriptedServer, answer, job_json


def test_list_show_and_retry(server: ScriptedServer) -> None:
    server.replies = [
        answer({"data": [FAILED], "next_cursor": None}),
        answer(FAILED),
        answer(job_json(id="job_2"), 202),
    ]

    listed = run(server, "dead", "list", "--limit", "5")
    shown = run(server, "dead", "show", "job_1")
    retried = run(server, "dead", "retry", "job_1")

    assert "job_1" in listed.stdout and "engine_error" in listed.stdout
    assert "boom" in shown.stdout
    assert retried.stdout == "job_1 -> job_2 (queued)\n"
    assert [seen.path for seen in server.seen] == [
        "/v1/dead-letters?limit=5",
        "/v1/jobs/job_1",
        "/v1/jobs/job_1/retry",
    ]


def test_none_is_said_so(server: ScriptedServer) -> None:
    server.replies = [answer({"data": [], "next_cursor": None})]
    assert run(server, "dead", "list").stdout == "no dead letters\n"
