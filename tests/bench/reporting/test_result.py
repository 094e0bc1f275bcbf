import msgspec

from bench.clients.order import Latency, Report
from bench.contests import QUICK
from bench.reporting.accounting import Command, Cost
from bench.reporting.figures import Spread
from bench.reporting.goals import DURABLE, Goal
from bench.reporting.machine import Machine
from bench.reporting.report import render
from bench.reporting.result import Entry, Outcome, Result, best, compare
from bench.turn import Turn


def entry(
    name: str, variant: str, *rates: float, errors: int = 0, p50: float = 1.0, durable: bool = True
) -> Entry:
    wrong = {"wrong answer": errors} if errors else {}
    turns = [
        Turn(
            Report(int(rate), rate, Latency(p50, 2.0, 3.0), int(rate), wrong, int(rate), 0.1),
            Cost({"front end": 1.25, "worker": 0.25, "engine": 0.5}, {"get": Command(2.0, 3.0)}),
        )
        for rate in rates
    ]
    return Entry(name, variant, "as it comes", turns, durable)


def result(*entries: Entry, goals: tuple[Goal, ...] = (), **options: object) -> Result:
    machine = Machine("CPU", 2, 8.0, "Linux", "CPython", "7.0.0", {"celery": "5.7.0"}, "abc", 0.1)
    compared = compare(list(entries), "rate", goals)
    outcome = Outcome("infer", "Jobs", 64, list(entries), compared)
    outcome = msgspec.structs.replace(outcome, **options)
    return Result("2026-01-02", True, QUICK, machine, [outcome])


def test_a_peer_counts_with_its_best_variant() -> None:
    compared = compare(
        [
            entry("ours", "", 1000, 1200),
            entry("one", "slow", 90, 100),
            entry("one", "fast", 400, 500),
            entry("two", "", 1, 2),
        ],
        "rate",
    )

    assert [(c.peer, c.variant) for c in compared] == [("one", "fast"), ("two", "")]
    assert compared[0].reached == Spread(1100 / 450, 2.4, 2.5)
    assert compared[0].goal is compared[0].met is None


def test_of_times_the_least_is_the_best() -> None:
    entries = [entry("one", "slow", 10, p50=9.0), entry("one", "fast", 10, p50=4.0)]

    assert best(entries, "p50").variant == "fast"


def test_goals_are_judged_by_the_medians() -> None:
    ours, peer = entry("ours", "", 1000, 1200), entry("one", "", 400, 500)

    (met,) = compare([ours, peer], "rate", [Goal("rate", 2.4, "one")])
    (missed,) = compare([ours, peer], "rate", [Goal("rate", 2.5, "one")])

    assert (met.met, missed.met) == (True, False)


def test_a_goal_of_less_is_met_from_below() -> None:
    ours, peer = entry("ours", "", 10, p50=4.0), entry("one", "", 10, p50=8.0)
    goals = [Goal("p50", 5.0), Goal("p50", 3.0), Goal("p50", 0.5, "one"), Goal("p50", 0.4, "one")]

    judged = compare([ours, peer], "p50", goals)

    assert [c.met for c in judged] == [True, False, True, False]
    assert judged[0].reached == Spread(4.0, 4.0, 4.0)


def test_the_best_durable_peer_is_none_that_keeps_nothing() -> None:
    entries = [
        entry("ours", "", 10, p50=4.0),
        entry("quick", "", 10, p50=1.0, durable=False),
        entry("one", "polled", 10, p50=8.0),
        entry("two", "waits", 10, p50=9.0),
    ]

    judged = compare(entries, "p50", [Goal("p50", 0.5, DURABLE)])

    assert judged[0].variant == "one, polled"
    assert judged[0].reached == Spread(0.5, 0.5, 0.5)


def test_worker_time_is_all_behind_the_queue() -> None:
    assert entry("one", "", 10).values("worker_ms") == [0.75]


def test_a_goal_against_a_peer_that_was_left_out_is_not_measured() -> None:
    text = render(
        result(
            entry("ours", "", 10),
            goals=(Goal("rate", 2.0, "one"),),
            left_out={"one, waits": "pip failed"},
        ),
        "no plot",
    )

    assert "LEFT OUT, not measured: one, waits.** pip failed" in text
    assert "0 of 1 reached" in text
    assert "not measured" in text


def test_a_report_says_goals_figures_and_wrong_answers() -> None:
    written = result(
        entry("ours", "", 1000, 1200),
        entry("one", "fast", 400, 500, errors=3),
        goals=(Goal("rate", 2.0, "one"), Goal("worker_ms", 0.15, "one")),
    )
    text = " ".join(render(written, "![plot](some.png)").split())

    assert "1 of 2 reached" in text
    assert "| one (fast) | ≥ 2 × | 2.44 × (2.40 - 2.50) | reached |" in text
    assert "| one (fast) | ≤ 0.15 × | 1.00 × (1.00 - 1.00) | **missed** |" in text
    assert "![plot](some.png)" in text
    assert "64 clients" in text
    assert "1,100 (1,000 - 1,200)" in text
    assert "6 of 906" in text
    assert "1.250" in text
    assert "get 2.00" in text


def test_an_open_loop_says_its_arrivals() -> None:
    text = render(result(entry("ours", "", 10), arrivals=123.4), "no plot")

    assert "Jobs, 123 jobs arriving a second" in text


def test_a_result_survives_its_json() -> None:
    written = result(
        entry("ours", "", 1000.0), entry("one", "fast", 400.0), goals=(Goal("rate", 2.0, "one"),)
    )

    assert msgspec.json.decode(msgspec.json.encode(written), type=Result) == written
    assert written.stem == "2026-01-02-quick"
