import re

import pytest
from click.testing import CliRunner

from cli.main import COMMANDS, main
from tests.client.conftest import ScriptedServer, answer, job_json, problem


def run(*arguments: str, **env: str):
    return CliRunner().invoke(main, arguments, env=env, prog_name="truthgpt")


def test_help_lists_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    listed = re.findall(r"^  (\w+)  ", result.output, re.MULTILINE)
    assert listed == list(COMMANDS)
    assert not re.search(r"\.\.\.$", result.output.partition("Commands:")[2], re.MULTILINE), (
        "what a command does fits its line"
    )


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.output.startswith("truthgpt, version")


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["submit"],
        ["submit", "echo"],
        ["submit", "echo", "hi", "--input", "[]"],
        ["submit", "echo", "--input", "{not json"],
        ["submit", "echo", "hi", "--param", "novalue"],
        ["submit", "echo", "hi", "--wait", "--stream"],
        ["submit", "echo", "hi", "--priority", "urgent"],
        ["jobs", "--status", "dead"],
        ["up", "--port", "70000"],
    ],
)
def test_misuse_is_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_no_server_is_one_line_that_says_what_to_do() -> None:
    result = run("--url", "http://127.0.0.1:1", "--token", "t", "models")
    assert result.exit_code == 1
    assert result.output == (
        "Error: cannot reach http://127.0.0.1:1 (Connection refused). "
        "Start a server with `truthgpt up`, or name one with --url\n"
    )


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (problem(401, "unauthorized"), "the server refused the token. Set TRUTHGPT_API_TOKEN"),
        (
            problem(404, "unknown_model", "There is no model 'x'.", request_id="r1"),
            "Error: There is no model 'x'. (unknown_model, request r1)",
        ),
        (
            problem(
                422,
                "invalid_request",
                errors=[{"loc": ["params", "top_p"], "msg": "too big", "type": "t"}],
            ),
            "Error: params.top_p: too big (invalid_request",
        ),
        (
            problem(429, "rate_limited", "Slow down.", headers={"Retry_After": "7"}),
            "Slow down. Try again in 7 s. (rate_limited",
        ),
    ],
)
def test_a_refusal_is_one_line(server: ScriptedServer, reply, expected: str) -> None:
    server.replies = [reply]
    result = run("--url", server.url, "--token", "t", "get", "job_1")
    assert result.exit_code == 1
    assert expected in result.output
    assert result.output.count("\n") == 1


def test_a_bad_setting_is_one_line(tmp_path) -> None:
    result = run("up", "--config", str(tmp_path / "absent.yaml"), TRUTHGPT_STATE_DIR=str(tmp_path))
    assert result.exit_code == 1
    assert result.output.startswith("Error: TRUTHGPT_CONFIG: cannot read")
    assert result.output.count("\n") == 1


def test_the_token_is_read_where_a_local_server_left_it(server: ScriptedServer, tmp_path) -> None:
    server.replies = [answer(job_json())]
    (tmp_path / "token").write_text("tg_from_the_file\n")
    result = run(
        "get", "job_1", TRUTHGPT_STATE_DIR=str(tmp_path), TRUTHGPT_URL=server.url, REDIS_URL=""
    )
    assert result.exit_code == 0
    assert server.seen[0].headers["Authorization"] == "Bearer tg_from_the_file"


def test_a_token_of_one_s_own_wins(server: ScriptedServer, tmp_path) -> None:
    server.replies = [answer(job_json())]
    (tmp_path / "token").write_text("tg_from_the_file\n")
    run(
        *("--url", server.url, "get", "job_1"),
        TRUTHGPT_STATE_DIR=str(tmp_path),
        TRUTHGPT_API_TOKEN="from-the-environment",
    )
    assert server.seen[0].headers["Authorization"] == "Bearer from-the-environment"
