"""Every line of a server's output is a JSON object, whoever says it."""

import io
import json
from datetime import datetime

from honcho.printer import Message

from cli.lines import JsonLines


def printed(kind: str, data: object) -> list[dict[str, str]]:
    output = io.StringIO()
    lines = JsonLines(output)
    message = Message(kind, data, datetime.now(), "api", None)
    (lines.show if kind == "show" else lines.write)(message)
    return [json.loads(row) for row in output.getvalue().splitlines()]


def test_what_is_json_already_passes_as_it_is() -> None:
    assert printed("line", b'{"event": "x", "n": 1}\n') == [{"event": "x", "n": 1}]


def test_other_lines_become_events() -> None:
    for data, text in ((b"plain\n", "plain"), (b"\xff [1]\n", "\ufffd [1]"), ("[1, 2]", "[1, 2]")):
        [row] = printed("line", data)
        assert row["event"] == text and row["process"] == "api" and row["time"].endswith("Z")


def test_empty_lines_are_left_out_and_secrets_too() -> None:
    [row] = printed("line", "\n  \nredis://:hunter22@host\n")
    assert row["event"] == "redis://<hidden>@host"


def test_a_table_is_one_event() -> None:
    [row] = printed("show", "\nAPI  http://x\nDocs http://y\n")
    assert row["event"].splitlines() == ["API  http://x", "Docs http://y"]
