import json
from pathlib import Path

from click.testing import CliRunner, Result

from cli.main import main
from tests.client.conftest import ScriptedServer, answer, events, frame, job_json

USAGE = {"completion_tokens": 3, "queue_ms": 4.2, "run_ms": 310.0, "attempts": 1}
SUCCEEDED = job_json(status="succeeded", output={"text": "hi [bold]there[/]"}, usage=USAGE)
FAILED = job_json(
    status="failed", error={"code": "engine_error", "message": "boom", "retryable": True}
)


def run(server: ScriptedServer, *arguments: str, stdin: str | None = None) -> Result:
    login = ("--url", server.url, "--token", "a-token-for-tests")
    return CliRunner().invoke(main, [*login, *arguments], input=stdin, prog_name="truthgpt")


def test_submit_passes_everything_on(server: ScriptedServer) -> None:
    server.replies = [answer(job_json(queue_position=3), 202)]

    result = run(
        server,
        *("submit", "echo", "hi", "--param", "top_p=0.5", "--param", 'stop=["."]'),
        *("--param", "note=plain", "--metadata", "who=me=you", "--priority", "high"),
        *("--expires-in", "60", "--idempotency-key", "k1"),
    )

    assert result.exit_code == 0
    [seen] = server.seen
    assert seen.body == {
        "model": "echo",
        "prompt": "hi",
        "params": {"top_p": 0.5, "stop": ["."], "note": "plain"},
        "metadata": {"who": "me=you"},
        "priority": "high",
        "expires_in": 60.0,
    }
    assert seen.headers["Idempotency-Key"] == "k1"
    assert result.stdout == "job_1  echo  queued (3 in line)\n"
    assert result.stderr == "Follow it with: truthgpt stream job_1\n"


def test_input_is_read_from_a_file(server: ScriptedServer, tmp_path: Path) -> None:
    server.replies = [answer(job_json(), 202)] * 2
    file = tmp_path / "in.json"
    file.write_text('["a", "ß"]')

    run(server, "submit", "all-minilm", "--input", f"@{file}")
    run(server, "submit", "all-minilm", "--input", "@-", stdin="[1]")

    assert [one.body["input"] for one in server.seen] == [["a", "ß"], [1]]
    absent = run(server, "submit", "all-minilm", "--input", "@absent.json")
    assert absent.exit_code == 2 and "cannot read absent.json: No such file" in absent.output
    file.write_bytes(b"\xff")
    assert "not JSON" in run(server, "submit", "all-minilm", "--input", f"@{file}").output


def test_submit_takes_json_or_standard_input(server: ScriptedServer) -> None:
    server.replies = [answer(job_json(), 202)]

    run(server, "submit", "all-minilm", "--input", '["a", "b"]')
    run(server, "submit", "echo", "-", stdin="from a pipe")

    assert [seen.body for seen in server.seen] == [
        {"model": "all-minilm", "input": ["a", "b"]},
        {"model": "echo", "prompt": "from a pipe"},
    ]


def test_submit_wait_prints_the_output_as_it_is(server: ScriptedServer) -> None:
    server.replies = [answer(job_json(), 202), answer(SUCCEEDED)]

    result = run(server, "submit", "echo", "hi", "--wait")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "job_1  echo  succeeded",
        "3 tokens, waited 4 ms, ran 310 ms",
        "hi [bold]there[/]",
    ]


def test_submit_wait_for_a_job_that_fails_is_1(server: ScriptedServer) -> None:
    server.replies = [answer(job_json(), 202), answer(FAILED)]

    result = run(server, "submit", "echo", "hi", "--wait", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout) == FAILED
    assert result.stderr == "Error: job job_1 failed: engine_error: boom\n"


def test_submit_stream_puts_the_text_alone_on_standard_output(server: ScriptedServer) -> None:
    server.replies = [
        answer(job_json(), 202),
        events(
            b"retry: 1\n\n" + frame("token", {"text": "hi ", "index": 0}, "1-1"),
            frame("token", {"text": "[bold]there[/]", "index": 1}, "1-2"),
            frame("done", SUCCEEDED, "1-3"),
        ),
    ]

    result = run(server, "submit", "echo", "hi", "--stream")

    assert result.exit_code == 0
    assert result.stdout == "hi [bold]there[/]\n"
    assert result.stderr.splitlines() == [
        "job_1 queued",
        "succeeded: 3 tokens, waited 4 ms, ran 310 ms",
    ]


def test_stream_as_json_is_a_line_an_event(server: ScriptedServer) -> None:
    server.replies = [
        events(
            frame("reset", {"attempt": 2}, "2-0"),
            frame("token", {"text": "hü", "index": 0}, "2-1") + frame("done", SUCCEEDED, "2-2"),
        )
    ]

    result = run(server, "stream", "job_1", "--json", "--after", "1-7")

    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"event": "reset", "id": "2-0", "data": {"attempt": 2}},
        {"event": "token", "id": "2-1", "data": {"text": "hü", "index": 0}},
        {"event": "done", "id": "2-2", "data": SUCCEEDED},
    ]
    assert server.seen[0].headers["Last-Event-ID"] == "1-7"


def test_stream_of_a_failed_job_is_1(server: ScriptedServer) -> None:
    server.replies = [events(frame("done", FAILED, "1-1"))]
    result = run(server, "stream", "job_1")
    assert result.exit_code == 1
    assert "engine_error: boom" in result.stderr


def test_embeddings_are_shown_by_their_shape(server: ScriptedServer) -> None:
    output = {"embeddings": [[0.25] * 8, [0.5] * 8], "dimensions": 8}
    server.replies = [answer(job_json(status="succeeded", output=output))]
    result = run(server, "get", "job_1")
    assert "2 embeddings of 8 numbers: [0.250, 0.250, 0.250, 0.250, …]" in result.stdout


def test_get_and_cancel_as_json_are_the_document_itself(server: ScriptedServer) -> None:
    canceling = job_json(status="running", cancel_requested=True)
    server.replies = [answer(SUCCEEDED), answer(canceling, 202), answer(canceling, 202)]

    assert json.loads(run(server, "get", "job_1", "--json").stdout) == SUCCEEDED
    assert json.loads(run(server, "cancel", "job_1", "--json").stdout) == canceling
    assert "running (cancel requested)" in run(server, "cancel", "job_1").stdout


def test_jobs_is_a_table_that_cuts_no_id(server: ScriptedServer) -> None:
    long_id = "job_" + "x" * 40
    rows = [job_json(id=long_id, usage={"run_ms": 12.3}), FAILED]
    server.replies = [answer({"data": rows, "next_cursor": "c1"})]

    result = run(server, "jobs", "--model", "echo", "--limit", "2")

    assert server.seen[0].path == "/v1/jobs?model=echo&limit=2"
    assert long_id in result.stdout
    assert "12 ms" in result.stdout
    assert "engine_error" in result.stdout


def test_jobs_as_json_and_none_at_all(server: ScriptedServer) -> None:
    server.replies = [answer({"data": [], "next_cursor": None})]
    assert json.loads(run(server, "jobs", "--json").stdout) == {"data": []}
    assert run(server, "jobs").stdout == "no jobs\n"
