"""Many real processes, one directory: sums of all, gauges of the living, whatever kills them."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shared.telemetry.metrics.directory import Directory
from tests.conftest import eventually
from tests.shared.telemetry.conftest import Scrape, scrape

MEMBER = """
import os, sys
from pathlib import Path
from shared.telemetry.metrics.directory import Directory
from shared.telemetry.metrics.instruments import Instruments
Directory(Path(sys.argv[1])).join()
metrics = Instruments()

def say():
    metrics.child("inference_requests_total", "GET", "/").inc()
    metrics.child("inference_request_duration_ms", "GET", "/").observe(7)
    metrics.child("inference_active_connections", "GET", "/").inc()

say()
if sys.argv[2] == "fork":
    if os.fork() == 0:
        say()
        print("up", flush=True)
        sys.stdin.read()
        os._exit(0)
    os._exit(0)
print("up", flush=True)
sys.stdin.read()
"""


class Members:
    """Processes with metrics of their own in one directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, how: str = "plain") -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(self.path), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        return process

    def kill(self, process: "subprocess.Popen[str]") -> None:
        process.kill()
        process.wait()

    def seen(self) -> Scrape:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Directory(self.path))
        return scrape(registry)

    def files(self) -> set[str]:
        return {file.name for file in self.path.iterdir()}


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    members = Members(tmp_path / "metrics")
    yield members
    for process in members.processes:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def requests(seen: Scrape) -> tuple[float, float, float]:
    """Requests, timed ones, and those in progress."""
    return (
        seen.sum("inference_requests_total"),
        seen.sum("inference_request_duration_ms_count"),
        seen.sum("inference_active_connections"),
    )


def test_one_page_sums_all_and_keeps_what_the_dead_have_counted(members: Members) -> None:
    first, _ = members.start(), members.start()
    assert requests(members.seen()) == (2, 2, 2)

    members.kill(first)
    for _ in range(3):
        seen = members.seen()
        assert requests(seen) == (2, 2, 1), "counted for ever, active no longer"
        assert seen.sum("inference_request_duration_ms_bucket", le="10.0") == 2
        assert seen.sum("inference_request_duration_ms_sum") == 14


def test_files_stay_few_however_many_die(members: Members) -> None:
    members.start()
    few = len(members.files())
    for _ in range(4):
        members.kill(members.start())
        members.seen()
    assert requests(members.seen()) == (5, 5, 1)
    assert len(members.files()) == few + len({"counter_past.db", "histogram_past.db"})


def test_the_first_of_a_new_generation_starts_from_nothing(members: Members) -> None:
    members.kill(members.start())
    members.kill(members.start())
    members.start()
    assert requests(members.seen()) == (1, 1, 1)


def test_a_child_that_outlives_a_fork_is_one_of_its_own(members: Members) -> None:
    parent = members.start("fork")
    parent.wait()
    assert requests(members.seen()) == (2, 2, 1)
    assert parent.stdin is not None
    parent.stdin.close()
    eventually(lambda: requests(members.seen()) == (2, 2, 0), what="the child's gauges are gone")


def test_a_reader_does_not_wait_for_ever_for_another_one(members: Members) -> None:
    members.start()
    with Directory(members.path)._locked() as alone:
        assert alone
        assert requests(members.seen()) == (1, 1, 1)
