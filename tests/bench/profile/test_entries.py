"""The way of a job in docs/architecture.md, held against what a submission enters."""

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

from bench.profile.entries import ROOT, Entry, twice, way_of_a_job
from bench.programs import REPOSITORY
from shared.redis import guard
from tests.conftest import RedisServer

PAGE = Path(REPOSITORY, "docs/architecture.md")


@pytest.fixture
def found(own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Entry]:
    # A look at Redis' memory now and then is no part of the way.
    monkeypatch.setattr(guard, "LOOK_SECONDS", 3600.0)
    return way_of_a_job(own_redis.url, tmp_path)


def test_a_submission_goes_the_way_that_the_page_shows(found: list[Entry]) -> None:
    section = PAGE.read_text("utf-8").partition("from socket to Redis")[2]
    table, _, rest = section.partition("`python -m bench.profile.entries`")
    documented = re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)
    again = rest.partition("entered more than once:")[2].partition("\n\n")[0]

    assert documented
    places = [_place(name, found) for name in documented]

    assert places == sorted(places)
    assert set(twice(found)) == set(re.findall(r"`([\w/]+\.py)`", again))


def _place(name: str, found: list[Entry]) -> int:
    """Where the function that a dotted name means was entered, or the one that it gave to be called."""
    code = resolve_name(name).__code__
    entry = Entry(code.co_filename.removeprefix(ROOT), code.co_qualname)
    for at, one in enumerate(found):
        if one.file == entry.file and f"{one.function}.".startswith(f"{entry.function}."):
            return at
    raise AssertionError(f"{name} is not entered")
