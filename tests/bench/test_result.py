import msgspec

from bench.accounting import Command, Cost
from bench.contests import QUICK
from bench.figures import Spread
from bench.machine import Machine
from bench.order import Latency, Report
from bench.report import render
from bench.result import Entry, Outcome, Result, compare
from bench.turn import Turn


def entry(name: str, variant: str, *rates: float, errors: int = 0) -> Entry:
    wrong = {"wrong answer": errors} if errors else {}
    turns = [
        Turn(
            Report(int(rate), rate, Latency(1.0, 2.0, 3.0), int(rate), wrong, int(rate), 0.1),
            Cost({"front end": 1.25}, {"get": Command(2.0, 3.0)}),
        )
        for rate in rates
    ]
    return Entry(name, variant, "as it comes", turns)


def result(*entries: Entry) -> Result:
    machine = Machine("CPU", 2, 8.0, "Linux", "CPython", "7.0.0", {"celery": "5.7.0"}, "abc", 0.1)
    outcome = Outcome("infer", "Jobs", 64, list(entries), compare(list(entries)))
    return Result("2026-01-02", True, QUICK, machine, [outcome])


def test_a_peer_counts_with_its_best_variant() -> None:
    ours = entry("ours", "", 1000, 1200)

    compared = compare(
        [
            ours,
            entry("one", "slow", 90, 100),
            entry("one", "fast", 400, 500),
            entry("two", "", 1, 2),
        ]
    )

    assert [(c.peer, c.variant) for c in compared] == [("one", "fast"), ("two", "")]
    assert compared[0].ratio == Spread(1100 / 450, 2.4, 2.5)


def test_a_report_says_ratio_figures_and_wrong_answers() -> None:
    text = render(result(entry("ours", "", 1000, 1200), entry("one", "fast", 400, 500, errors=3)))

    assert "**2.44 × one** (fast; 2.40 - 2.50 within a round)" in text
    assert "1,100 (1,000 - 1,200)" in text
    assert "6 of 906" in text
    assert "1.250" in text
    assert "get 2.00" in text


def test_a_result_survives_its_json() -> None:
    written = result(entry("ours", "", 1000.0), entry("one", "fast", 400.0))

    assert msgspec.json.decode(msgspec.json.encode(written), type=Result) == written
    assert written.stem == "2026-01-02-quick"
