"""The stress run itself: it sees failures, and leaves nothing spinning."""

import subprocess
import sys
from pathlib import Path

import psutil

from tests.stress import ROOT, busy, failures


def test_busy_loops_take_time_and_end() -> None:
    before = set(psutil.Process().children())
    with busy(2):
        spinning = set(psutil.Process().children()) - before
        assert len(spinning) == 2
    assert not [child for child in spinning if child.is_running()]


def test_failures_are_read_from_the_summary() -> None:
    output = "FAILED tests/a.py::test_x[1] - assert 1\nERROR tests/b.py - boom\nx FAILED y"
    assert failures(output) == ["tests/a.py::test_x[1]", "tests/b.py"]


def test_a_failure_is_told_and_is_the_exit_status(tmp_path: Path) -> None:
    (tmp_path / "test_odd.py").write_text("def test_fails(): assert False\n")
    command = [sys.executable, "-m", "tests.stress", "--runs", "1", "--workers", "0"]
    ran = subprocess.run(
        [*command, "--out", str(tmp_path / "logs"), str(tmp_path / "test_odd.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1, ran.stderr
    [line] = ran.stdout.splitlines()
    assert line.startswith("run 1: ") and "test_odd.py::test_fails" in line
