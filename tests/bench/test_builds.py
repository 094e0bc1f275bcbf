"""What the report on two builds says: ratios of medians, and rounds as they were paired."""

import argparse
from pathlib import Path

import pytest

from bench.builds import Builds, Pair, _checkout, render
from bench.clients.order import Latency, Report
from bench.programs import REPOSITORY
from bench.reporting.accounting import Command, Cost
from bench.reporting.machine import look_around
from bench.turn import Turn


def turn(rate: float, cpu_ms: float, errors: int = 0) -> Turn:
    wrong = {"wrong answer": errors} if errors else {}
    report = Report(int(rate), rate, Latency(2.0, 3.0, 4.0), int(rate), wrong, 0, 1.0)
    spent = {"front end": cpu_ms, "worker": 0.2, "redis": 0.1 * rate / 1000}
    return Turn(report, Cost(spent, {"get": Command(2, 1)}))


def test_a_row_has_both_medians_their_ratio_and_the_rounds() -> None:
    here = [turn(1200, 0.2), turn(1000, 0.2), turn(1100, 0.2)]
    there = [turn(1000, 0.25), turn(1000, 0.25, errors=2), turn(1000, 0.25)]
    result = Builds("2026-01-02", look_around(()), "before", 5.0, [Pair("client", 64, here, there)])

    text = render(result)

    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["client", "64", "jobs/s", "1,100", "1,000", "1.10 × (1.00 - 1.20)"] in rows
    assert [
        "client",
        "64",
        "API processor ms/job",
        "0.200",
        "0.250",
        "0.80 × (0.80 - 0.80)",
    ] in rows
    redis = ["Redis processor ms/job", "0.110", "0.100", "1.10 × (1.00 - 1.20)"]
    assert ["client", "64", *redis] in rows
    assert "2 wrong answers" in text
    assert "This code beside before" in text


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    assert _checkout(str(REPOSITORY)) == REPOSITORY
    with pytest.raises(argparse.ArgumentTypeError, match="no checkout"):
        _checkout(str(tmp_path))
