"""Every line of a server's output is a JSON object, whoever says it."""

import io
import json
from datetime import datetime

from honcho.printer import Message

from cli.terminal.lines import JsonLines


def printed(data: object) -> list[dict[str, str]]:
    output = io.StringIO()
    JsonLines(output).write(Message("line", data, datetime.now(), "api", None))
    return [json.loads(row) for row in output.getvalue().splitlines()]


def test_what_is_json_already_passes_as_it_is() -> None:
    assert printed(b'{"event": "x", "n": 1}\n') == [{"event": "x", "n": 1}]


def test_other_lines_become_events() -> None:
    for data, text in ((b"plain\n", "plain"), (b"\xff [1]\n", "\ufffd [1]"), ("[1, 2]", "[1, 2]")):
        [row] = printed(data)
        assert row["event"] == text and row["process"] == "api" and row["time"].endswith("Z")


def test_empty_lines_are_left_out_and_secrets_too() -> None:
    [row] = printed("\n  \nredis://:hunter22@host\n")
    assert row["event"] == "redis://<hidden>@host"


def test_what_a_terminal_shows_as_a_table_is_one_event_with_its_facts() -> None:
    output = io.StringIO()
    message = Message("show", None, datetime.now(), "system", None)
    JsonLines(output).show(message, "serving", {"api": "http://x", "models": [{"model": "m"}]})
    [line] = output.getvalue().splitlines()
    row = json.loads(line)
    assert (row["event"], row["api"], row["models"]) == ("serving", "http://x", [{"model": "m"}])
    assert row["level"] == "info" and row["process"] == "system"
