"""Every benchmark ends with a status that tells what happened, and writes where it is told to."""

import os
import signal
from pathlib import Path

import msgspec
import pytest

from bench.command import FAILED, INTERRUPTED, parser, publish, run, today


class Found(msgspec.Struct):
    answer: int


def test_the_status_is_what_was_measured() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert [run(lambda: 0), run(lambda: 1)] == [0, 1]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_failure_is_one_line_and_a_bug_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise OSError("no Redis")

    assert run(fail, OSError) == FAILED
    assert capsys.readouterr().err == "no Redis\n"
    with pytest.raises(OSError, match="no Redis"):
        run(fail, ValueError)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_writes_nothing(signum: int, capsys: pytest.CaptureFixture[str]) -> None:
    def measure() -> int:
        os.kill(os.getpid(), signum)
        return 0

    assert run(measure) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted; nothing is written\n"


def test_a_result_is_printed_and_written_beside_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = parser("bench.x", "x").parse_args(["--results", str(tmp_path / "new")]).results

    publish(Found(42), "# Found\n", folder, f"{today()}-x")

    assert (folder / f"{today()}-x.md").read_text() == "# Found\n"
    assert msgspec.json.decode((folder / f"{today()}-x.json").read_bytes()) == {"answer": 42}
    assert "# Found" in capsys.readouterr().out
