import pytest
from click.testing import CliRunner, Result

from cli.demo import SENTENCES
from cli.main import main
from tests.client.conftest import ScriptedServer, answer, events, frame, job_json, problem

TEXT_MODEL = {"id": "demo-llama", "engine": "text-generation", "device": "cpu", "state": "ready"}
VECTOR_MODEL = {"id": "all-minilm", "engine": "embedding", "device": "cpu", "state": "ready"}
OWN_MODEL = {"id": "mine", "engine": "package.module:Class", "state": "ready"}
DONE = job_json(status="succeeded", output={"text": " a list."}, usage={"completion_tokens": 2})


def demo(server: ScriptedServer) -> Result:
    login = ("--url", server.url, "--token", "t")
    return CliRunner().invoke(main, [*login, "demo"], prog_name="truthgpt")


def text_job(*texts: str):
    tokens = [frame("token", {"text": text, "index": n}, f"1-{n}") for n, text in enumerate(texts)]
    return [answer(job_json(), 202), events(*tokens, frame("done", DONE, "1-9")), answer(DONE)]


def test_it_runs_a_job_for_every_model_it_knows(server: ScriptedServer) -> None:
    vectors = {"embeddings": [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]], "dimensions": 2}
    catalogue = answer({"data": [TEXT_MODEL, VECTOR_MODEL, OWN_MODEL]})
    server.replies = [
        catalogue,
        *text_job(" a", " list."),
        answer(job_json(), 202),
        answer(job_json(status="succeeded", output=vectors)),
        catalogue,
    ]

    result = demo(server)

    assert result.exit_code == 0, result.output
    assert "The function returns a list." in result.output
    assert f" 0.60  {SENTENCES[1]}" in result.output
    assert f" 0.00  {SENTENCES[2]}" in result.output
    assert "no demo for this one" in result.output
    assert "truthgpt submit demo-llama" in result.output


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ([answer({"data": [{**TEXT_MODEL, "state": "failed"}]})], "demo-llama is failed"),
        ([answer({"data": [OWN_MODEL]})], "no model that the demo knows"),
        ([answer({"data": [TEXT_MODEL]}), *text_job(" b")], "are not the output's text"),
        ([problem(401, "unauthorized")], "refused the token"),
    ],
)
def test_it_says_what_failed(server: ScriptedServer, replies: list, expected: str) -> None:
    server.replies = replies
    result = demo(server)
    assert result.exit_code == 1
    assert expected in result.output.splitlines()[-1]


def test_a_job_that_fails_fails_the_demo(server: ScriptedServer) -> None:
    error = {"code": "engine_error", "message": "boom", "retryable": True}
    failed = job_json(status="failed", error=error)
    server.replies = [
        answer({"data": [TEXT_MODEL]}),
        answer(job_json(), 202),
        events(frame("done", failed, "1-1")),
        answer(failed),
    ]
    result = demo(server)
    assert result.exit_code == 1
    assert "engine_error: boom" in result.output
