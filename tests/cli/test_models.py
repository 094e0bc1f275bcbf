"""`truthgpt models check`: what a directory is, before it is served."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import main
from cli.models import lines
from tests.layered_layouts import dense_as_sentence_t5


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, arguments)


@pytest.mark.timeout(400)
def test_a_directory_is_tried_and_compared(tmp_path: Path) -> None:
    dense_as_sentence_t5(tmp_path)

    result = run("models", "check", str(tmp_path), "--against", "--json", "--device", "cpu")

    told = json.loads(result.stdout)
    assert result.exit_code == 0, told
    assert (told["engine"], told["batching"], told["problem"]) == ("embedding", "packed", None)
    shown = "\n".join(lines(told))
    assert told["kind"] in shown and "engine   embedding" in shown and ": same, cosine" in shown


def test_what_cannot_be_served_says_why_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a_check.py").write_text("""print('{"problem": "/models/x is empty"}')""")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("cli.models.CHECK", "a_check")

    result = run("models", "check", "/models/x")

    assert result.exit_code == 1
    assert result.output == "Error: /models/x is empty\n"
