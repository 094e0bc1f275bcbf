"""The table of `bench.hostile`: what is measured here stands beside what was measured elsewhere."""

import pytest

from bench.hostile.__main__ import ROWS, _print
from bench.hostile.row import Figure


def test_a_figure_stands_beside_the_same_of_the_other_checkout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = [Figure("attack", "gap", 50, "ms"), Figure("attack", "more", 1, "of 8")]

    _print(here, [Figure("attack", "gap", 2000, "ms")])
    _print(here[:1], [])

    assert capsys.readouterr().out.splitlines() == [
        "| attack | gap | 50 ms | 2,000 ms | 0.025 |",
        "| attack | more | 1 of 8 |  |  |",
        "| attack | gap | 50 ms |  |  |",
    ]


def test_rows_have_titles_of_their_own() -> None:
    titles = [row.TITLE for row in ROWS]

    assert len(set(titles)) == len(titles)
