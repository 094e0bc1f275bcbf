"""The shares of linear growth: each of the one-worker rate of its own round."""

from pathlib import Path
from typing import Any

import pytest

from bench import scaling
from bench.clients.order import Latency, Report
from bench.reporting.accounting import Cost
from bench.sleeper import Sleeper
from bench.turn import Turn

RATES = {1: [40.0, 50.0, 45.0], 4: [152.0, 200.0, 171.0]}


def test_each_point_is_compared_with_one_worker_in_the_same_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = {count: list(rates) for count, rates in RATES.items()}
    asked = []

    def turn(subject: scaling.Workers, folder: Path, **order: Any) -> Turn:
        asked.append((subject.processes, order["clients"]))
        rate = left[subject.processes].pop(0)
        report = Report(int(rate), rate, Latency(1, 1, 1), int(rate), {"HTTP 500": 1}, 0, 0.0)
        return Turn(report, Cost({"worker": rate}, {}))

    monkeypatch.setattr(scaling, "take_turn", turn)
    result = scaling.measure([1, 4], 3, 0.1)

    assert asked == [(1, 8), (4, 32)] * 3, "in turn, with as many clients a worker"
    one, four = result.points
    assert (one.share, four.share) == (1.0, pytest.approx(0.95))
    assert four.bound == pytest.approx(171 / 200) and four.cpu_ms == {"worker": 171.0}
    assert (one.errors, four.errors) == (3, 3)
    assert "| 4 | 171.0 (152.0 to 200.0) | 0.950 × |" in scaling.render(result)


def test_the_sleeper_says_what_it_was_told() -> None:
    assert Sleeper().predict(["a", "b"]) == [{"text": "a"}, {"text": "b"}]
