"""`truthgpt breakers`: over the same API as everything else."""

import json

from tests.cli.test_jobs import run
from tests.client.conftest import ScriptedServer, answer, problem

COUNTS = {"consecutive_failures": 5, "successes": 17, "failures": 9, "opened": 2}
MODEL = {
    "id": "demo-llama",
    "engine": "text-generation",
    "state": "ready",
    "breaker": {"state": "open", **COUNTS, "retry_after_ms": 41_200},
    "workers": [
        {"name": "w1", "breaker": {"state": "half_open", **COUNTS, "retry_after_ms": 0}},
        {"name": "old"},
    ],
}


def test_list_shows_the_models_and_their_workers(server: ScriptedServer) -> None:
    server.replies = [answer({"data": [MODEL]})]
    lines = run(server, "breakers", "list").stdout.splitlines()
    [model] = [line for line in lines if "41 s" in line]
    [worker] = [line for line in lines if "w1" in line]
    assert model.split() == ["demo-llama", "open", "5", "9", "17", "2", "41", "s"]
    assert worker.split()[:3] == ["demo-llama", "w1", "half-open"]
    assert not any("old" in line for line in lines)

    shown = json.loads(run(server, "breakers", "list", "--json").stdout)["data"]
    assert [row["worker"] for row in shown] == [None, "w1"]
    assert shown[0]["state"] == "open"


def test_reset_says_what_the_breaker_is_then(server: ScriptedServer) -> None:
    server.replies = [answer({**MODEL, "breaker": {"state": "closed"}})]
    assert run(server, "breakers", "reset", "demo-llama").stdout == "demo-llama: closed\n"
    assert server.seen[0].path == "/v1/models/demo-llama/breaker/reset"
    again = json.loads(run(server, "breakers", "reset", "demo-llama", "--json").stdout)
    assert again == {"model": "demo-llama", "state": "closed"}


def test_reset_of_an_unknown_model(server: ScriptedServer) -> None:
    server.replies = [problem(404, "unknown_model", "There is no model 'x'.")]
    refused = run(server, "breakers", "reset", "x")
    assert refused.exit_code == 1 and "There is no model 'x'." in refused.stderr
    assert run(server, "breakers", "reset", "../x").exit_code == 1
    assert len(server.seen) == 1
