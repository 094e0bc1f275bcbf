"""The ways of a job and of a token in docs/architecture.md, held against what is entered on them."""

import inspect
import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

from bench.profile.entries import ROOT, Entry, twice, way_of_a_job
from bench.profile.token_entries import way_of_a_token
from bench.programs import REPOSITORY
from shared.redis import guard
from tests.conftest import RedisServer
from workers.host.loop import Loop

PAGE = Path(REPOSITORY, "docs/architecture.md").read_text("utf-8")
AGAIN = "entered more than once:"


@pytest.fixture(autouse=True)
def no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at Redis' memory now and then is no part of a way."""
    monkeypatch.setattr(guard, "LOOK_SECONDS", 3600.0)


def test_a_submission_goes_the_way_that_the_page_shows(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    functions, again = documented("from socket to Redis")
    found = way_of_a_job(own_redis.url, tmp_path)

    assert functions
    places = [place(name, found) for name in functions]

    assert places == sorted(places)
    assert set(twice(found)) == again


def test_a_token_goes_the_way_that_the_page_shows(own_redis: RedisServer, tmp_path: Path) -> None:
    (begins, *functions), again = documented("from engine to reader")
    found = way_of_a_token(own_redis.url, tmp_path)

    # It calls the engine, whose step is the first entry.
    assert resolve_name(begins) is Loop.run
    places = [place(name, found) for name in functions]

    assert places == sorted(places)
    assert set(twice(found)) == again


def documented(heading: str) -> tuple[list[str], set[str]]:
    """The functions of a section's table up to where it says which files are entered again, and these."""
    section = PAGE.partition(f"{heading}\n")[2]
    table, _, rest = section.partition(AGAIN)
    functions = re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)
    return functions, set(re.findall(r"`([\w/]+\.py)`", rest.partition("\n\n")[0]))


def place(name: str, found: list[Entry]) -> int:
    """Where the function or class that a dotted name means was entered, or what it gave to be called."""
    known = resolve_name(name)
    file = inspect.getfile(inspect.unwrap(known)).removeprefix(ROOT)
    for at, one in enumerate(found):
        if one.file == file and f"{one.function}.".startswith(f"{known.__qualname__}."):
            return at
    raise AssertionError(f"{name} is not entered")
