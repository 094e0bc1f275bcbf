"""`python -m tests.show [--seconds N]`: start everything, put load on it, print what can be seen of it."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.show.sections import SECTIONS, at_work


def show(
    folder: Path, seconds: float, say: Callable[[str], None], titles: Iterable[str] = SECTIONS
) -> dict[str, bool]:
    """Each section of these titles and whether all in it was as it must be."""
    with at_work(folder) as site:
        done = site.live(seconds)
        say(f"{done} jobs succeeded beside a bad hour in {seconds:g} s of load")
        verdicts = {}
        for title in titles:
            say(f"\n== {title}")
            verdicts[title] = SECTIONS[title](site, say)
        say("")
        for title, good in verdicts.items():
            say(f"{'ok    ' if good else 'FAILED'}  {title}")
        return verdicts


def main() -> int:
    """0 when all was as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.show", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long load is put on it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="truthgpt-show-") as folder:
        try:
            return 0 if all(show(Path(folder), options.seconds, _say).values()) else 1
        except (pytest.fail.Exception, pytest.skip.Exception) as ended:
            _say(f"FAILED  {ended}")
            return 1


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is what it is for


if __name__ == "__main__":
    sys.exit(main())
