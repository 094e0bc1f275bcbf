"""That the bench of batches measures what it says."""

import json
import sys
from pathlib import Path

import pytest

from bench import batches


def test_a_small_batch_is_measured_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", f"_ --lines 700 --results {tmp_path}".split())

    assert batches.main() == 0

    [document], [report] = tmp_path.glob("*.json"), tmp_path.glob("*.md")
    said = json.loads(document.read_text())
    assert said["lines"] == 700 and said["input_bytes"] > 700 * 100
    # How much is for the bench to say: of so few lines most are under way at once.
    assert said["bytes_a_line"] > 0
    assert "| ≤ 400 |" in report.read_text()
