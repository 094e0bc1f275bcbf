"""A failure gets a second look by itself; one that stays, and many, do not pass by it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.again import FAILED, MOST, again, failed

ONCE = """
from pathlib import Path

def test_once():
    been = Path(__file__).with_name("been")
    assert been.exists() or been.touch()
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs in these tests load none of the plug-ins that are installed here: they take seconds."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def run(folder: Path, *tests: str) -> None:
    """One run of pytest over a file with these tests."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text("\n".join(tests))
    subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=folder, stdout=subprocess.DEVNULL)


def test_a_test_that_passes_alone_is_named_as_flaky(tmp_path: Path) -> None:
    run(tmp_path, ONCE)

    assert failed(tmp_path) == ["test_it.py::test_once"]
    status, told = again(tmp_path)
    assert status == 0 and "FLAKY" in told and "test_it.py::test_once" in told


def test_a_test_that_fails_again_has_failed(tmp_path: Path) -> None:
    run(tmp_path, ONCE, "def test_never(): assert False")

    status, told = again(tmp_path)
    assert (status, told) == (1, "FAILED TWICE: test_it.py::test_never")


@pytest.mark.parametrize("number", [0, MOST + 1])
def test_none_and_many_are_no_bad_luck(tmp_path: Path, number: int) -> None:
    kept = tmp_path / FAILED
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({f"test_it.py::test_{n}": True for n in range(number)}))

    status, _ = again(tmp_path)
    assert status == 1
