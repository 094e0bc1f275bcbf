"""Environments are made once from their pins, and one that cannot be made says why."""

import ast
import subprocess
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from bench.environments import REQUIREMENTS, EnvironmentFailed, python_of
from bench.programs import REPOSITORY

VLLM = REPOSITORY / "tests" / "real_vllm" / "vllm.txt"
PINS = [*sorted(REQUIREMENTS.glob("*.txt")), VLLM]


def test_an_environment_is_made_once_and_anew_when_its_pins_change(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("--no-index\n")
    made = tmp_path / "made"

    first = python_of("empty", requirements=tmp_path, folder=made)
    (first.parent.parent / "witness").touch()
    again = python_of("empty", requirements=tmp_path, folder=made)

    assert again == first
    assert (first.parent.parent / "witness").exists()
    assert not runs(first, "import msgspec")

    (tmp_path / "empty.txt").write_text("--no-index\n# changed\n")
    changed = python_of("empty", requirements=tmp_path, folder=made)

    assert changed != first
    assert runs(changed, "import sys")
    assert not first.exists()


def test_one_that_sees_our_packages_finds_them(tmp_path: Path) -> None:
    (tmp_path / "litserve.txt").write_text("--no-index\n")

    python = python_of("litserve", requirements=tmp_path, folder=tmp_path / "made")

    assert runs(python, "import msgspec")


def test_what_cannot_be_installed_is_named_and_never_taken_for_ready(tmp_path: Path) -> None:
    (tmp_path / "missing.txt").write_text("--no-index\nthere-is-no-such-package==1.0\n")

    with pytest.raises(EnvironmentFailed, match="missing: pip failed") as failed:
        python_of("missing", requirements=tmp_path, folder=tmp_path / "made")

    assert "there-is-no-such-package" in str(failed.value)
    assert not list((tmp_path / "made").glob("*/ready"))


def test_what_stands_on_our_path_is_not_taken_for_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "borrowed-1.0.dist-info").mkdir(parents=True)
    (elsewhere / "borrowed-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: borrowed\nVersion: 1.0\n"
    )
    (tmp_path / "path.txt").write_text("--no-index\nborrowed==1.0\n")
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))

    with pytest.raises(EnvironmentFailed, match="borrowed"):
        python_of("path", requirements=tmp_path, folder=tmp_path / "made")


@pytest.mark.parametrize("pins", PINS, ids=lambda path: path.stem)
def test_everything_is_pinned(pins: Path) -> None:
    lines = pins.read_text("utf-8").splitlines()

    assert lines
    assert all(line.count("==") == 1 for line in lines)


def runs(python: Path, code: str) -> bool:
    return subprocess.run([python, "-P", "-c", code], env={}, capture_output=True).returncode == 0


def test_the_environment_of_vllm_has_what_the_fixtures_of_all_tests_import() -> None:
    module = ast.parse((REPOSITORY / "tests" / "conftest.py").read_text())
    froms = [node.module or "" for node in ast.walk(module) if isinstance(node, ast.ImportFrom)]
    plain = [
        n.name for node in ast.walk(module) if isinstance(node, ast.Import) for n in node.names
    ]
    providers = packages_distributions()
    found = (providers.get(name.partition(".")[0], []) for name in (*froms, *plain))
    needed = {name.lower() for names in found for name in names}
    pinned = {line.partition("==")[0].lower() for line in VLLM.read_text().splitlines()}

    assert "pytest" in needed
    assert needed <= pinned
