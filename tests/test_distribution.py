"""How the processes of a run share the work of collecting."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.distribution import import_share, modules_of_tests, unit_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Three modules with tests of a package `shares`, one of which cannot be imported, and one without."""
    package = tmp_path / "shares"
    package.mkdir()
    for name, text in {"a": "", "b": "raise ValueError", "c": "", "d": ""}.items():
        (package / f"test_{name}.py").write_text(text)
    (package / "helper.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for module in [name for name in sys.modules if name.partition(".")[0] == "shares"]:
        del sys.modules[module]


def config(root: Path, *arguments: str, **more: Any) -> pytest.Config:
    return cast(pytest.Config, SimpleNamespace(rootpath=root, args=list(arguments), **more))


def test_modules_are_those_below_the_paths_of_the_run(folder: Path) -> None:
    every = [f"shares.test_{name}" for name in "abcd"]
    assert modules_of_tests(config(folder, "shares")) == every
    assert modules_of_tests(config(folder, str(folder), "shares/test_a.py")) == every
    assert modules_of_tests(config(folder, "shares/test_c.py::test_x[1/2]")) == every[2:3]
    assert modules_of_tests(config(folder / "shares", str(folder / "elsewhere"))) == []


def test_each_process_imports_its_share(folder: Path) -> None:
    worker = {"workerid": "gw1", "workercount": 2}
    import_share(config(folder, "shares", workerinput=worker))
    assert {name for name in sys.modules if name.startswith("shares.test")} == {"shares.test_d"}


def test_a_single_process_imports_nothing_before_it_collects(folder: Path) -> None:
    before = set(sys.modules)
    import_share(config(folder, "shares"))
    assert set(sys.modules) == before


def test_files_that_share_a_server_are_one_unit() -> None:
    assert unit_of("tests/clients/test_openai.py::test_x[a]") == "clients"
    assert unit_of("tests/cli/test_keys.py::test_x") == "cli/test_keys.py"
