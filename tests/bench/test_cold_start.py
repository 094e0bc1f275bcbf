"""A real API is started, timed and ended."""

from bench import cold_start
from bench.reporting.machine import look_around


def test_a_start_is_timed_until_the_first_answer() -> None:
    [name, _] = cold_start.STARTS

    start = cold_start.measure(name, 1)

    assert start.cpu_seconds[0] > 0 and 0 < start.seconds[0] < cold_start.PATIENCE
    machine = look_around()
    report = cold_start.render(cold_start.ColdStart("2026-11-23", machine, [start]))
    assert f"| {name} | {start.seconds[0]:.2f} (" in report
