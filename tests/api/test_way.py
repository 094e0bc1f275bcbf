"""The way of a submission is the one that docs/architecture.md tells, and goes forward."""

import functools
import importlib
import re
from typing import Any

from flask import Flask

from bench.profile.entries import LEAVES, ROOT, Entry, entries, submission, twice
from tests.api.conftest import ROOT as REPOSITORY
from tests.api.conftest import TOKEN

PAGE = (REPOSITORY / "docs" / "architecture.md").read_text("utf-8")
ROW = re.compile(r"^\| `([A-Za-z_.]+)` \|", re.MULTILINE)


def told() -> list[str]:
    """The functions of the page's table, in order, up to the last one before Redis."""
    rows = ROW.findall(PAGE[PAGE.index("## The way of a job") :])
    return rows[: next(at for at, row in enumerate(rows, 1) if row.endswith(LEAVES))]


def entry_of(name: str) -> Entry:
    """A function by its dotted name, as it is entered."""
    path = name.split(".")
    for cut in range(len(path) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(path[:cut]))
        except ImportError:
            continue
        code = functools.reduce(getattr, path[cut:], found).__code__
        return Entry(code.co_filename.removeprefix(ROOT), code.co_qualname)
    raise AssertionError(f"{name} is nowhere")


def test_the_way_of_a_submission_is_the_one_that_is_told(app: Flask) -> None:
    submission(app, TOKEN)()
    found = entries(submission(app, TOKEN))

    left = iter(found)
    for name in told():
        file, function = entry_of(name)
        assert any(one.file == file and one.function.startswith(function) for one in left), name
    assert found[-1].function == LEAVES


def test_no_file_is_entered_twice_but_those_that_are_named(app: Flask) -> None:
    submission(app, TOKEN)()
    found = entries(submission(app, TOKEN))

    named = re.search(r"Three files are\s+entered more than once: (.*?)\n\n", PAGE, re.DOTALL)
    assert named is not None
    assert set(twice(found)) <= set(re.findall(r"`([^`]+\.py)`", named[1])), twice(found)
