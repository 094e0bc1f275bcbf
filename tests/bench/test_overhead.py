"""What the report on observers says, and that nobody takes silence for tracing."""

import httpx
import pytest

from bench.clients.order import Latency, Report
from bench.collector import collector
from bench.overhead import Overhead, Round, render
from bench.reporting.accounting import Command, Cost
from bench.reporting.machine import look_around
from bench.turn import Turn


def turn(rate: float, cpu_ms: float) -> Turn:
    report = Report(int(rate * 10), rate, Latency(1.0, 2.0, 3.0), int(rate * 10), {}, 0, 1.0)
    return Turn(report, Cost({"front end": cpu_ms, "worker": 0.25}, {"get": Command(1, 1)}))


def result(*rates: tuple[float, float]) -> Overhead:
    rounds = [Round(0.5, turn(on, 0.9), turn(off, 0.8)) for on, off in rates]
    return Overhead("2026-11-23", look_around(()), ["metrics", "logs"], 10.0, 4096, rounds)


def test_the_ratio_is_that_of_the_medians_and_the_ends_of_the_rounds() -> None:
    over = result((960, 1000), (990, 1000), (900, 1000)).ratio
    assert (over.median, over.low, over.high) == (0.96, 0.9, 0.99)


@pytest.mark.parametrize(("rate", "verdict"), [(960, "within the goal"), (940, "above the goal")])
def test_the_report_says_whether_the_goal_is_met(rate: float, verdict: str) -> None:
    text = render(result((rate, 1000), (rate, 1000)))
    assert f"metrics, logs over nothing: {rate / 1000:.3f}" in text and verdict in text
    [on] = [line for line in text.splitlines() if line.startswith("| on ")]
    assert [cell.strip() for cell in on.split("|")[4:7]] == ["0.900", "0.250", "1.150"]


def test_the_collector_counts_what_it_takes() -> None:
    with collector() as running:
        for _ in range(2):
            answer = httpx.post(f"{running.endpoint}/v1/traces", content=b"x" * 100, timeout=10)
            assert answer.status_code == 200
        assert running.received == 200
