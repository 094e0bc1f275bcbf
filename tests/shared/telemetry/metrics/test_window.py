import pytest

from shared.telemetry.metrics.window import Window


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_steady_rate_is_told_as_it_is_and_falls_to_nothing() -> None:
    clock = Clock()
    window = Window(10, clock)
    for _ in range(300):
        clock.now += 0.1
        window.add(5)
    assert window.rate() == pytest.approx(50, rel=0.12)

    clock.now += 5
    assert 15 < window.rate() < 35
    clock.now += 10
    assert window.rate() == 0


def test_a_young_window_does_not_divide_by_time_that_was_not() -> None:
    clock = Clock()
    window = Window(10, clock)
    clock.now += 2
    window.add(20)
    assert window.rate() == pytest.approx(10)


def test_it_stays_small() -> None:
    clock = Clock()
    window = Window(10, clock)
    for _ in range(10_000):
        clock.now += 0.5
        window.add(1)
    assert len(window._counts) <= 11
