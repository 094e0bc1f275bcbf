import os
import subprocess
import sys
import threading

from shared.telemetry.metrics.instruments import Instruments
from shared.telemetry.metrics.processes import ProcessMetrics, Ticker
from tests.conftest import eventually
from tests.shared.telemetry.conftest import scrape


def test_a_process_has_age_and_memory_until_it_is_gone(instruments: Instruments) -> None:
    # Before the child says that it runs it may hold next to nothing.
    program = "print('runs', flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None and child.stdout.readline() == b"runs\n"
    metrics = ProcessMetrics(instruments, "engine-m", lambda: child.pid)
    metrics.tick()
    assert scrape(instruments.registry).sum("process_memory_bytes", process="engine-m") > 100_000

    child.communicate(b"\n")
    metrics.tick()
    assert scrape(instruments.registry).sum("process_memory_bytes") == 0


def test_our_own(instruments: Instruments) -> None:
    ProcessMetrics(instruments, "api", os.getpid).tick()
    seen = scrape(instruments.registry)
    assert seen.sum("process_uptime_seconds", process="api") > 0
    assert seen.sum("process_memory_bytes", process="api") > 10_000_000


def test_the_ticker_goes_on_past_a_broken_one_and_ends() -> None:
    ticks: list[int] = []

    def broken() -> None:
        raise RuntimeError

    ticker = Ticker([broken, lambda: ticks.append(1)], interval=0.01)
    before = threading.active_count()
    ticker.start()
    eventually(lambda: len(ticks) > 2)
    ticker.stop()
    assert threading.active_count() == before
