import json
from typing import Any

from tests.cli.test_jobs import run
from tests.client.conftest import ScriptedServer, answer, job_json


def delivery(**changes: Any) -> dict[str, Any]:
    return {
        "id": "msg_1_completed",
        "object": "delivery",
        "job_id": "job_1",
        "type": "job.completed",
        "url": "https://example.com/hook",
        "status": "dead",
        "attempts": 16,
        "next_attempt_at": None,
        "response_status": 500,
        "error": "status",
        **changes,
    }


def test_list_shows_the_deliveries_of_a_job(server: ScriptedServer) -> None:
    pending = delivery(status="pending", error="timeout", response_status=None)
    server.replies = [answer({"data": [pending]})]

    shown = run(server, "webhooks", "list", "job_1").stdout

    assert server.seen[0].path == "/v1/jobs/job_1/deliveries"
    for word in ("job_1", "job.completed", "pending", "16", "timeout", "https://example.com/hook"):
        assert word in shown


def test_list_without_a_job_shows_the_dead(server: ScriptedServer) -> None:
    server.replies = [answer({"data": [delivery()]}), answer({"data": []})]

    assert "status (500)" in run(server, "webhooks", "list", "--limit", "5").stdout
    assert server.seen[0].path == "/v1/dead-deliveries?limit=5"
    assert run(server, "webhooks", "list").stdout == "no dead deliveries\n"


def test_list_as_json_is_the_document_itself(server: ScriptedServer) -> None:
    server.replies = [answer({"data": [delivery()]})]
    result = run(server, "webhooks", "list", "job_1", "--json")
    assert json.loads(result.stdout) == {"data": [delivery()]}


def test_replay_takes_several_jobs(server: ScriptedServer) -> None:
    server.replies = [answer({"data": [delivery(), delivery()]}, 202), answer({"data": []}, 202)]

    result = run(server, "webhooks", "replay", "job_1", "job_2")

    assert [(seen.method, seen.path) for seen in server.seen] == [
        ("POST", "/v1/jobs/job_1/deliveries/replay"),
        ("POST", "/v1/jobs/job_2/deliveries/replay"),
    ]
    assert result.stdout == "job_1: 2 to deliver\njob_2: 0 to deliver\n"


def test_submit_names_a_webhook(server: ScriptedServer) -> None:
    server.replies = [answer(job_json(), 202)]
    run(server, "submit", "echo", "hi", "--webhook", "https://example.com/hook")
    assert server.seen[0].body["webhook"] == {"url": "https://example.com/hook"}
